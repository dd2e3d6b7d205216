/* Text of others on its way to a terminal: nothing in it may act on the terminal. */
#pragma once

#include <stdio.h>

#include "proto/span.h"

/* Control characters and invalid UTF-8 become \xNN. Keeps newlines and tabs if lines is set. */
void text_write(FILE *out, struct span text, bool lines);
/* The same as a malloced string, without newlines; NULL without memory. */
char *text_escape(struct span text);
/* Each line of text behind `indent` blanks, ended by a newline. */
void text_write_indented(FILE *out, struct span text, int indent);
