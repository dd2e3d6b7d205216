/*
 * One line per method: identifier, name on the wire, role that it needs, keys that its params may have, what it does.
 * The router makes its table of handlers from these lines (method_<identifier>), docs/protocol.md has the same table, and
 * a test compares them.
 */
#pragma once

#include "proto/params.h"

/* What a peer may do; each role includes those before it. */
enum role {
	ROLE_NONE,
	ROLE_USE,
	ROLE_OBSERVE,
	ROLE_ADMIN,
};

#define K(key) PARAM_BIT(PARAM_##key)
#define PROTO_METHODS(X)                                                                                                  \
	X(hello, "hello", NONE, K(PROTOCOL) | K(CLIENT) | K(FEATURES), "agree on the protocol; turns on error maps")      \
	X(ping, "ping", NONE, 0, "answers \"pong\"")                                                                      \
	X(execute, "execute", USE,                                                                                        \
	  K(TARGET) | K(ARGS) | K(POOL) | K(LEASE) | K(SESSION) | K(OPEN) | K(TIMEOUT_MS) | K(QUEUE_TIMEOUT_MS) | K(META) | K(TRACEPARENT) |      \
	  K(IDEMPOTENT),                                                                                                  \
	  "call a handler and answer its return value")                                                                   \
	X(checkout, "checkout", USE, K(TYPE) | K(SESSION) | K(POOL) | K(TIMEOUT_MS) | K(TTL_MS) | K(DIRECT),                          \
	  "lease a worker for this connection alone")                                                                     \
	X(checkin, "checkin", USE, K(LEASE), "give a leased worker back")                                                 \
	X(session_open, "session.open", USE, K(SESSION) | K(POOL) | K(RESET) | K(TTL_MS),                                  \
	  "open a session, or take up a lost one again")                                                                  \
	X(session_close, "session.close", USE, K(SESSION) | K(POOL), "end a session; answers whether there was one")      \
	X(session_get, "session.get", USE, K(SESSION) | K(POOL) | K(KEY), "a value of a session, or all of them")         \
	X(session_put, "session.put", USE,                                                                                \
	  K(SESSION) | K(POOL) | K(VALUES) | K(OPEN) | K(TIMEOUT_MS) | K(QUEUE_TIMEOUT_MS), "write values of a session")  \
	X(session_delete, "session.delete", USE, K(SESSION) | K(POOL) | K(KEYS) | K(TIMEOUT_MS) | K(QUEUE_TIMEOUT_MS),    \
	  "remove values of a session; answers how many there were")                                                      \
	X(session_list, "session.list", USE, K(POOL), "the sessions of the caller's user")                                \
	X(cancel, "cancel", USE, K(ID) | K(CALL), "cancel a call; answers whether it was found")                          \
	X(status, "status", OBSERVE, 0, "the daemon and its pools in short")                                              \
	X(pools, "pools", OBSERVE, K(POOL), "pools with settings, counters and timings")                                  \
	X(workers, "workers", OBSERVE, K(POOL), "worker processes, living and lately dead")                               \
	X(sessions, "sessions", OBSERVE, K(POOL), "sessions of all users")                                                \
	X(leases, "leases", OBSERVE, K(POOL), "leases, with who holds them")                                              \
	X(clients, "clients", OBSERVE, 0, "connections")                                                                  \
	X(queue, "queue", OBSERVE, K(POOL), "calls that wait or run")                                                     \
	X(logs, "logs", OBSERVE, K(POOL) | K(WORKER) | K(LINES), "last output lines of workers, living and lately dead")	\
	X(why, "why", OBSERVE, K(CALL) | K(WORKER) | K(POOL), "what a call, a worker or a pool is doing, and why")         \
	X(subscribe, "subscribe", OBSERVE, K(KINDS) | K(POOLS), "be told of events as they happen")                        \
	X(pool_reload, "pool.reload", ADMIN, K(POOL) | K(WAIT) | K(DRY_RUN), "replace the workers of a pool, with the code as it is now")	\
	X(worker_stack, "worker.stack", ADMIN, K(POOL) | K(WORKER), "the Python stack of a worker as it is now")                    \
	X(pool_pause, "pool.pause", ADMIN, K(POOL), "start no more calls of a pool; those that come wait")                \
	X(pool_resume, "pool.resume", ADMIN, K(POOL), "go on after pool.pause")                                           \
	X(pool_resize, "pool.resize", ADMIN, K(POOL) | K(MIN_WORKERS) | K(MAX_WORKERS),                                   \
	  "change how many workers a pool has, until its next reload")                                                    \
	X(pool_recycle, "pool.recycle", ADMIN, K(POOL) | K(WORKER), "replace the workers of a pool, or one, between their calls") \
	X(worker_kill, "worker.kill", ADMIN, K(POOL) | K(WORKER), "kill a worker, whatever it runs")                                \
	X(config_show, "config.show", ADMIN, K(POOL), "the configuration in force, and where each option is given")        \
	X(upgrade, "upgrade", ADMIN, 0, "execute the daemon's program anew, in the same process; calls go on")                  \
	X(shutdown, "shutdown", ADMIN, K(NOW), "end the daemon, as SIGTERM does")

enum method {
#define X(ident, name, role, keys, doc) METHOD_##ident,
	PROTO_METHODS(X)
#undef X
		METHOD_N,
};

struct method_info {
	const char *name;
	enum role role;
	uint64_t keys; /* PARAM_BIT of each accepted key */
	const char *doc;
};

const struct method_info *method_info(enum method m);
/* METHOD_N when the bytes name no method. */
enum method method_find(struct span name);
/* Names of all methods, separated by spaces, for the unknown_method message. Static. */
const char *method_list(void);
const char *role_name(enum role role);
