/*
 * The connections, as they are handed over to the program that this process is about to execute: the fds stay open, and what has come in
 * and has not been answered, or been sent and not been read, goes along.
 */
#pragma once

#include "daemon/pool/handover.h"

struct server;

/* Why the connections cannot be handed over now; NULL: they can. Static. */
const char *server_obstacle(const struct server *s);
void server_pack_clients(const struct server *s, msgpack_packer *pk);
/* Calls that have not been started, as their clients sent them, in their order. */
void server_pack_waiting(const struct server *s, msgpack_packer *pk);

void server_take_clients(struct server *s, struct unpacker *u);
/* NULL when there is none with that number. */
struct caller *server_find_caller(const struct server *s, uint64_t id);
/* When the pools are there too. */
void server_take_waiting(struct server *s, struct unpacker *u);
