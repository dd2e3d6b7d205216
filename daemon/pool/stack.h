/*
 * A Python stack as faulthandler writes it, read for people: the innermost frame comes first, each a line like
 * `  File "/srv/app.py", line 5 in slow`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/span.h"

#define STACK_TEXT 200

/* Parts of the text; a frame of a module's top level has the function `<module>`. */
struct stack_frame {
	struct span file, line, function;
};

/* Takes the next frame off *rest; false at the end. */
bool stack_next(struct span *rest, struct stack_frame *f);
/* Not of Python's own library, of an installed package, or of the worker. */
bool stack_frame_is_user(const struct stack_frame *f);
/* "app.py line 5 in slow", the innermost frame of the user's, else the innermost; "" when there is none. Returns out. */
const char *stack_place(struct span stack, char out[STACK_TEXT]);
/* Who imports whom where it has stopped: "models (app.py line 3) -> db (models.py line 7)"; "" when nothing is imported but
 * the outermost. Returns out. */
const char *stack_imports(struct span stack, char *out, size_t size);
/* Without the frames of the worker around the user's, which say nothing. */
struct span stack_cut(struct span stack);
