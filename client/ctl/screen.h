/* The terminal, for what is drawn again and again in one place: lines are cut to its width and height, keys come one by one and
 * are not shown. Nothing of it stays when it is closed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct screen {
	bool open;
	struct termios before; /* of stdin */
	bool has_keys;         /* stdin is a terminal too */
};

/* stdout is a terminal. */
bool screen_is_possible(void);
void screen_open(struct screen *s);
void screen_close(struct screen *s);
/* Draws lines of text over what was there. */
void screen_draw(const char *text);
/* A key that was pressed; 0: none. */
char screen_key(struct screen *s);
/* For screen_draw(): how many bytes of the first line of text are shown in so many columns; n bytes long at the most. */
size_t screen_cut(const char *text, size_t n, unsigned columns);
