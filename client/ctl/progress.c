#include "client/ctl/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/ctl/ctl.h"

#define USUAL_COLUMNS 80

void progress_open(struct progress *p)
{
	const char *term = getenv("TERM");

	*p = (struct progress){ .shows = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0, .began = ctl_now_ms() };
}

void progress_draw(struct progress *p, const char *text)
{
	struct winsize size = { .ws_col = USUAL_COLUMNS };
	char line[512];

	if (!p->shows)
		return;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		size.ws_col = USUAL_COLUMNS;
	(void)snprintf(line, sizeof(line), "%s (%llu s)", text, (unsigned long long)(ctl_now_ms() - p->began) / 1000); /* cut */
	fprintf(stderr, "\r%.*s\033[K", size.ws_col - 1, line); /* in the last column it would go on to the next line */
	p->drawn = true;
}

void progress_close(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
