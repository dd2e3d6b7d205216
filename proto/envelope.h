/*
 * The envelope of a message: request [0, id, method, [params]], response [1, id, error, result] (from a worker with a
 * fifth element, meta), notification [2, method, [params]]. Parsed in place: every span points into the frame.
 */
#pragma once

#include "proto/cursor.h"
#include "proto/errors.h"

enum envelope_type {
	ENVELOPE_REQUEST = 0,
	ENVELOPE_RESPONSE = 1,
	ENVELOPE_NOTIFICATION = 2,
};

struct envelope {
	enum envelope_type type;
	bool has_id;         /* request, response; also set when a later part is wrong, so that the error can echo it */
	uint64_t id;
	struct span method;  /* request, notification */
	struct span params;  /* request, notification: one encoded map; len 0 when there is none */
	struct span error;   /* response: one encoded value, perhaps nil */
	struct span result;  /* response: one encoded value */
	struct span meta;    /* response: one encoded map; len 0 when absent */
};

/* Why an outsider's message is refused. */
struct complaint {
	enum error_code code;
	char message[512]; /* UTF-8, names what is wrong and what is accepted */
};

/* Fills c->message as printf does. Always returns false, so that a parser can `return complain(...)`. */
bool complain(struct complaint *c, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* frame: one value that a cursor has accepted. params that are nil or empty, and an empty array or nil in place of the
 * map, mean an empty map. The id of a response may be nil (to a message whose id could not be read): has_id is false.
 * False: *c says why (bad_request); out->has_id and out->id are right if the id could be read. */
bool envelope_parse(struct span frame, struct envelope *out, struct complaint *c);
/* Escapes bytes of an outsider for a message or a log line: control characters and invalid UTF-8 as \xNN, cut with "..."
 * to fit. Always NUL-terminated. Returns out. */
const char *envelope_quote(struct span s, char *out, size_t size);
