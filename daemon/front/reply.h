/* Encodes answers to clients: [1, id, error, result], errors as one string before hello and as a map after it. */
#pragma once

#include <msgpack.h>

#include "daemon/pool/outcome.h"
#include "daemon/pool/request.h"

struct client;

/* id NULL: the id of the message could not be read. */
void reply_error(struct client *c, const uint64_t *id, const struct outcome *o);
/* One encoded value. */
void reply_value(struct client *c, uint64_t id, struct slice value);
void reply_packed(struct client *c, uint64_t id, const msgpack_sbuffer *value);
/* [2, name, [params]] with one encoded map; only to a client that has said hello. */
void reply_news(struct client *c, const char *name, struct span params);
/* The end of a request. */
void reply_finished(struct client *c, const struct request *r, const struct outcome *o);
