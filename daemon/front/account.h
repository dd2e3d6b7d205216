/* What the peers of one uid use together, against the uid_max_ limits. Charged to the object, given back with it. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "daemon/base/hash.h"

struct account {
	uid_t uid;
	unsigned connections;
	unsigned calls;
	size_t bytes; /* bodies of unfinished calls */
	size_t out;   /* replies that wait for their connections to read */
	UT_hash_handle hh;
};

/* table: uthash head, owned by the server. Makes the account on first use, with one connection charged. */
struct account *account_join(struct account **table, uid_t uid);
/* Takes the connection off; the account goes with its last one. */
void account_leave(struct account **table, struct account *a);
/* Connections that uid has now. */
unsigned account_connections(struct account *table, uid_t uid);
