/*
 * What the peers of one uid use together, against the uid_max_ limits. Each thing is charged by what makes it and given back
 * by what ends it. The registry owns the accounts; one lives as long as anything is charged to it: sessions outlive the
 * connections that opened them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/hash.h"

struct outcome;
struct registry;

/* 0: no limit. */
struct account_limits {
	unsigned uid_max_calls, uid_max_sessions, uid_max_leases;
	uint64_t uid_max_bytes;
};

struct account {
	uid_t uid;
	struct registry *registry; /* borrows: owns the accounts */
	unsigned callers;     /* that point here */
	uint64_t turn;        /* of the loop, the last in which a message was taken */
	unsigned taken;       /* messages in that turn */
	unsigned connections; /* with those that only flush their last replies */
	unsigned calls;       /* checkouts are calls too */
	unsigned sessions;
	unsigned leases;      /* and checkouts that wait for one */
	size_t bytes;         /* bodies of unfinished calls */
	size_t out;           /* replies that wait for their connections to read */
	UT_hash_handle hh;
};

/* Makes the account on first use, with one caller or connection charged. */
struct account *account_add_caller(struct registry *g, uid_t uid);
struct account *account_add_connection(struct registry *g, uid_t uid);
/* The same with one session charged. */
struct account *account_add_session(struct registry *g, uid_t uid);
void account_remove_caller(struct account *a);
void account_remove_connection(struct account *a);
/* Connections that uid has now. */
unsigned account_connections(const struct registry *g, uid_t uid);

/* May one more message be taken from its connections in that turn of the loop? It counts as one. When others are connected
 * too, a uid is not read from without end, on however many connections it sends. */
bool account_may_take(struct account *a, uint64_t turn);

/* May one more be charged? False: *o says why (quota). */
bool account_may_submit(const struct account *a, size_t bytes, struct outcome *o);
bool account_may_lease(const struct account *a, struct outcome *o);
bool account_may_open(const struct account *a, struct outcome *o);

void account_charge_call(struct account *a, size_t bytes);
void account_release_call(struct account *a, size_t bytes);
/* A lease, or a checkout until it is answered. */
void account_charge_lease(struct account *a);
void account_release_lease(struct account *a);
void account_charge_session(struct account *a);
void account_release_session(struct account *a);
