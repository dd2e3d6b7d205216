/*
 * How a request ended: a value, or an error with all that a person needs to understand it. Lives on the stack of whoever
 * ends the request; the caller's `finished` encodes it at once and keeps nothing but references that it takes itself.
 */
#pragma once

#include <msgpack.h>

#include "daemon/base/blob.h"
#include "proto/errors.h"

struct outcome {
	enum error_code code; /* ERROR_NONE: success, `value` is the answer */
	enum executed executed;
	bool abandoned;       /* nobody is there to be told */
	struct slice value;   /* borrows: one encoded value */
	int *fd;              /* borrows: of a success that brings an fd, to be taken from there; or NULL */
	struct span cause;    /* borrows: one encoded map; len 0 for none */
	uint64_t retry_after_ms; /* 0: not said */
	uint64_t worker;      /* 0: no worker was concerned */
	const char *phase;    /* init phase, or NULL */
	const char *session;  /* borrows: name of the session that is concerned, or NULL */
	char message[1024];   /* of an error; UTF-8, alone enough for a person */
};

/* An error with `executed` as the table of errors has it. */
void outcome_error(struct outcome *o, enum error_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void outcome_value(struct outcome *o, struct slice value);
