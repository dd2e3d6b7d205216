/* How the values of a session change, and how its worker gets them. They are committed whole or not at all. */
#pragma once

#include <msgpack.h>
#include <stdbool.h>

#include "daemon/base/blob.h"

struct outcome;
struct request;
struct session;
struct worker;

/* Edits the values for session.put and session.delete, and answers. */
void session_edit(struct request *r);
/* What a handler has written with its success. False: nothing was committed, *o is the answer instead, or writes are
 * malformed: then o->code is worker_protocol. */
bool session_commit(struct request *r, struct span writes, struct outcome *o);
/* The packed value of the key "session" of a message to w, up to the values; those follow as *values when they have to be
 * sent (with their map header packed already), else its len is 0. */
void session_pack_head(struct session *s, struct worker *w, msgpack_packer *pk, struct slice *values);
