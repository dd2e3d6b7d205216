/*
 * One line per error code: what it is called on the wire, whether the call may have run when nothing more is known, and
 * what it means. docs/protocol.md holds the same table; a test compares the two.
 */
#pragma once

#include <stddef.h>

/* Only `never` may be sent again by a machine: the call surely did not start. */
enum executed {
	EXECUTED_NEVER,
	EXECUTED_MAYBE,
	EXECUTED_YES,
};

#define PROTO_ERRORS(X)                                                                                                  \
	X(BAD_FRAME, bad_frame, NEVER, "the framing is broken; the connection closes")                                   \
	X(BAD_MSGPACK, bad_msgpack, NEVER, "the frame is not one well-formed MessagePack value; the connection closes")  \
	X(BAD_REQUEST, bad_request, NEVER, "the message is well formed but not a request that this daemon accepts")      \
	X(TOO_LARGE, too_large, NEVER, "a frame or a result is over its limit")                                          \
	X(UNKNOWN_METHOD, unknown_method, NEVER, "no such method; the message lists what exists")                        \
	X(UNKNOWN_POOL, unknown_pool, NEVER, "no such pool; the message lists the pools")                                \
	X(UNKNOWN_TARGET, unknown_target, NEVER, "the pool's application exposes no such handler")                       \
	X(INVALID_CHECKOUT_TYPE, invalid_checkout_type, NEVER, "checkout takes \"anonymous\" or \"session\"")            \
	X(DENIED, denied, NEVER, "this peer's role does not allow the method")                                           \
	X(DUPLICATE_ID, duplicate_id, NEVER, "this connection has a request with the same id in flight")                 \
	X(QUOTA, quota, NEVER, "the connection or its user is over a limit of its own")                                  \
	X(OVERLOADED, overloaded, NEVER, "the pool's queue or the daemon's memory is full")                              \
	X(QUEUE_TIMEOUT, queue_timeout, NEVER, "no worker became free within queue_timeout_ms")                          \
	X(DEADLINE_EXCEEDED, deadline_exceeded, MAYBE, "the call was not finished at its deadline")                      \
	X(CANCELLED, cancelled, MAYBE, "the caller cancelled the call")                                                  \
	X(WORKER_DIED, worker_died, MAYBE, "the worker process ended while it ran the call")                             \
	X(WORKER_PROTOCOL, worker_protocol, MAYBE, "the worker broke the protocol and was killed")                       \
	X(INIT_FAILED, init_failed, NEVER, "no worker of the pool could be started")                                     \
	X(CIRCUIT_OPEN, circuit_open, NEVER, "the pool failed too often and is given a rest")                            \
	X(POISONED, poisoned, NEVER, "this very call has killed too many workers")                                       \
	X(SESSION_NOT_FOUND, session_not_found, NEVER, "no such session")                                                \
	X(SESSION_LOST, session_lost, NEVER, "the session's worker is gone")                                             \
	X(SESSION_BUSY, session_busy, NEVER, "another lease holds the session")                                          \
	X(SESSION_FULL, session_full, NEVER, "the session's values are over their limit")                                \
	X(LEASE_NOT_FOUND, lease_not_found, NEVER, "no such lease on this connection")                                   \
	X(LEASE_EXPIRED, lease_expired, NEVER, "the lease has ended")                                                    \
	X(PAUSED, paused, NEVER, "the pool is paused by an operator")                                                    \
	X(DRAINING, draining, NEVER, "the daemon is shutting down")                                                      \
	X(APP_ERROR, app_error, YES, "the handler raised an exception")                                                  \
	X(UNSERIALIZABLE, unserializable, YES, "the handler's result cannot be encoded as MessagePack")                  \
	X(INTERNAL, internal, MAYBE, "a bug of the daemon; please report it")

enum error_code {
	ERROR_NONE,
#define X(UPPER, lower, executed, meaning) ERROR_##UPPER,
	PROTO_ERRORS(X)
#undef X
		ERROR_N,
};

/* The name on the wire; "none" for ERROR_NONE. Static. */
const char *error_name(enum error_code code);
/* What `executed` is when the place of the error knows nothing better. */
enum executed error_executed(enum error_code code);
const char *error_meaning(enum error_code code);
/* "never", "maybe", "yes". */
const char *executed_name(enum executed executed);
/* ERROR_NONE when the bytes name no code. */
enum error_code error_find(const void *name, size_t len);
