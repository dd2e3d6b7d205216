/*
 * The method upgrade: the daemon executes its program anew, in the same process, and goes on. Whoever asked is answered by the new
 * program, or by this one when it does not come to that.
 */
#pragma once

#include <msgpack.h>

#include "daemon/base/unpack.h"
#include "proto/errors.h"

struct client;
struct server;

/* c has asked for the one that is on. */
bool upgrade_is_awaited(const struct client *c);
/* Packs what upgrade_take_awaited() of the next program reads. */
void upgrade_pack_awaited(const struct client *c, msgpack_packer *pk);
void upgrade_take_awaited(struct client *c, struct unpacker *u);

/* The answer, if anybody waits for it. from: the version of the program before; ns that nobody was served. */
void upgrade_note_done(struct server *s, const char *from, uint64_t ns);
void upgrade_note_failed(struct server *s, enum error_code code, const char *message);
