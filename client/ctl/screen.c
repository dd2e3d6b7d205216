#include "client/ctl/screen.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define ENTER "\x1b[?1049h\x1b[?25l" /* the other screen, no cursor */
#define LEAVE "\x1b[?25h\x1b[?1049l"
#define HOME "\x1b[H"
#define CLEAR_REST "\x1b[K"
#define CLEAR_BELOW "\x1b[J"

bool screen_is_possible(void)
{
	return isatty(STDOUT_FILENO);
}

void screen_open(struct screen *s)
{
	struct termios keys;

	s->has_keys = tcgetattr(STDIN_FILENO, &s->before) == 0;
	if (s->has_keys) {
		keys = s->before;
		keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* Ctrl-C stays what it is */
		keys.c_cc[VMIN] = 0;
		keys.c_cc[VTIME] = 0;
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &keys); /* else keys need Enter, and that is all */
	}
	fputs(ENTER, stdout);
	s->open = true;
}

void screen_close(struct screen *s)
{
	if (!s->open)
		return;
	s->open = false;
	fputs(LEAVE, stdout);
	(void)fflush(stdout); /* a failed write shows in ferror() at the end */
	if (s->has_keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
}

size_t screen_cut(const char *text, size_t n, unsigned columns)
{
	mbstate_t state = { 0 };
	size_t used = 0;
	wchar_t c;

	while (used < n) {
		size_t bytes = mbrtowc(&c, text + used, n - used, &state);
		int width = 1;

		if (bytes == 0 || bytes > n - used) { /* no character of this locale */
			memset(&state, 0, sizeof(state));
			bytes = 1;
		} else {
			width = wcwidth(c);
		}
		width = width < 0 ? 1 : width;
		if ((unsigned)width > columns)
			break;
		columns -= (unsigned)width;
		used += bytes;
	}
	return used;
}

void screen_draw(const char *text)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size); /* else it is of the usual size */
	fputs(HOME, stdout);
	for (unsigned row = 0; *text && row < size.ws_row; row++) {
		size_t line = strcspn(text, "\n");

		printf("%s%.*s" CLEAR_REST, row ? "\n" : "", (int)screen_cut(text, line, size.ws_col), text);
		text += line + (text[line] == '\n');
	}
	fputs(CLEAR_BELOW, stdout);
	(void)fflush(stdout); /* a failed write shows in ferror() at the end */
}

char screen_key(struct screen *s)
{
	char c;

	return s->open && s->has_keys && read(STDIN_FILENO, &c, 1) == 1 ? c : '\0';
}
