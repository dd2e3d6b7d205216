/* What is left to wait for, in one line of the terminal that is drawn over and gone at the end. Nothing where stderr is none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool shows;
	bool drawn;
	uint64_t began; /* ms */
};

void progress_open(struct progress *p);
/* Without control characters; cut to the width of the terminal. How long it has taken is put behind. */
void progress_draw(struct progress *p, const char *text);
void progress_close(struct progress *p);
