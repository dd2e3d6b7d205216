/*
 * libpypool: a client of pypoold, the daemon that runs Python calls in a pool of worker processes.
 *
 * Return values. An int function returns 0 or a negative errno:
 *   -EREMOTEIO  the daemon answered the call with an error, or the call's direct lease has ended
 *   -ETIMEDOUT  the daemon did not answer in time; the call was cancelled there
 *   -ENOTCONN   not connected, or the connection was lost before or during the call
 *   -EPROTO     the daemon sent what is not the protocol; the connection, or the direct lease, is closed
 *   -EPERM      the handle was made by another process: after fork() a child makes its own
 *   -EBUSY      a blocking call inside a callback
 *   -EINVAL, -EMSGSIZE, -ENOMEM and what socket(2) and connect(2) report
 * After each failure pypool_last_error() holds the whole story.
 *
 * Times are in milliseconds. A timeout of 0 is the handle's default (pypool_set_timeout), which is: no limit here, the
 * daemon's own limits apply.
 *
 * A handle may be used by one thread at a time. The library has no global state, starts no threads, raises no signals
 * and leaves signal handlers alone.
 *
 * Values go in and come out as MessagePack. What comes out has been checked: it is exactly one well-formed value, nested
 * at most 512 deep.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PYPOOL_VERSION_MAJOR 0
#define PYPOOL_VERSION_MINOR 1
#define PYPOOL_VERSION_PATCH 0
#define PYPOOL_VERSION "0.1.0"
/* For #if PYPOOL_VERSION_NUMBER >= 0x000100 */
#define PYPOOL_VERSION_NUMBER ((PYPOOL_VERSION_MAJOR << 16) | (PYPOOL_VERSION_MINOR << 8) | PYPOOL_VERSION_PATCH)
#define PYPOOL_PROTOCOL 1

#if defined(__GNUC__)
#define PYPOOL_API __attribute__((visibility("default")))
#define PYPOOL_MUST_USE __attribute__((warn_unused_result))
#else
#define PYPOOL_API
#define PYPOOL_MUST_USE
#endif

struct pypool;       /* one connection */
struct pypool_reply; /* the answer to one call; owns its bytes */
struct pypool_error; /* lives in a reply or a handle */

/* Bytes that somebody else owns. */
struct pypool_span {
	const void *data;
	size_t size;
};

/* May the call have had an effect? Only after PYPOOL_NEVER may a machine send it again. */
enum pypool_executed {
	PYPOOL_NEVER = 0, /* surely not started */
	PYPOOL_MAYBE = 1,
	PYPOOL_YES = 2,
};

/* Zero it, then set what you need; NULL in its place is all zero. */
struct pypool_options {
	const char *pool;          /* NULL: the pool named "default", or the only one */
	uint64_t lease;            /* execute: run on this leased worker; 0: any */
	const char *session;       /* execute, checkout: a call of this session, its worker; NULL: of none */
	int must_exist;            /* execute, session_put: the session must be there already; 0: it is opened */
	int reset;                 /* session_open: its values are dropped */
	int direct;                /* checkout: with a socket to the worker, over which calls under the lease go */
	uint32_t timeout_ms;       /* from now until the answer, waiting for a worker included; at most 2^31 */
	uint32_t queue_timeout_ms; /* the part of it that may be spent waiting for a worker; 0: the pool's */
	uint32_t ttl_ms;           /* checkout: of the lease; session_open: of the unused session; 0: the pool's */
	int meta;                  /* execute: the value is {value, meta: {worker, generation, pid, ...}} */
	int idempotent;            /* execute: may be run again if its worker is lost and its handler is marked so */
	const char *traceparent;   /* W3C trace context, handed to the worker; or NULL */
	uint64_t reserved[4];      /* zero */
};

/* A leased worker: nobody else's calls run on it until checkin, its expiry, or the end of the connection. */
struct pypool_lease {
	uint64_t lease;
	uint64_t worker;
	uint64_t pid;
	uint64_t generation;
	uint64_t expires_ms; /* from the moment of the checkout; 0: no limit */
	int direct;          /* calls go over a socket of their own */
};

/* What pypool_session_open() tells. */
struct pypool_session {
	int opened;          /* it was not there before, or was lost */
	uint64_t worker;     /* that it runs on; 0: none yet, or none now */
	uint64_t generation; /* of the code that its last worker ran; 0: none yet */
	uint64_t expires_ms; /* unless it is used; 0: no limit */
	uint64_t keys;       /* how many values it has, and their size */
	uint64_t bytes;
};

/* Of the library that is running; PYPOOL_VERSION is that of the header. Static. */
PYPOOL_API const char *pypool_version(void);

/* ---- handle and connection ---- */

PYPOOL_API PYPOOL_MUST_USE int pypool_new(struct pypool **pp);
/* Disconnects and frees; calls in flight are answered with connection_lost first. Takes NULL; returns NULL. Inside a
 * callback of the same handle it does nothing and returns p. In a forked child it only frees the child's copy. */
PYPOOL_API struct pypool *pypool_free(struct pypool *p);

/* What `pypoolctl clients` shows; 1..255 bytes of UTF-8, copied. Takes effect with the next connect. */
PYPOOL_API int pypool_set_name(struct pypool *p, const char *name);
/* What the daemon says unasked: method "lease_lost" with params {lease, worker, reason, message, cause?}, a map; after the
 * method subscribe also "event" with {kind, what, time_ms, pool?, dropped?, ...}. Called from where pypool_done is. params are valid during the call. May submit, cancel and disconnect. NULL: not wanted. */
typedef void pypool_notify(struct pypool *p, const char *method, struct pypool_span params, void *data);
PYPOOL_API void pypool_set_notify(struct pypool *p, pypool_notify *notify, void *data);
/* The timeout of every call that names none. */
PYPOOL_API void pypool_set_timeout(struct pypool *p, uint32_t timeout_ms);

/* path: NULL for $PYPOOL_SOCKET, else /run/pypoold/pypoold.sock for root and $XDG_RUNTIME_DIR/pypoold/pypoold.sock for
 * others. While the daemon's backlog is full or nobody listens yet on an existing socket, tries again, with jitter, until
 * timeout_ms has passed (0: one try). Sends hello without waiting for its answer. May be called again after a connection
 * was lost. -EISCONN when connected. */
PYPOOL_API int pypool_connect(struct pypool *p, const char *path, uint32_t timeout_ms);
/* The same without blocking: calls may be submitted at once, pypool_dispatch() goes on with connecting. */
PYPOOL_API int pypool_connect_start(struct pypool *p, const char *path, uint32_t timeout_ms);
/* Uses a connected stream socket and owns it from now on (on failure too). Sends hello. */
PYPOOL_API int pypool_attach(struct pypool *p, int fd);
/* Calls in flight are answered with connection_lost, and leases end. */
PYPOOL_API void pypool_disconnect(struct pypool *p);
/* The path of the last connect, or "". Valid until the next connect. */
PYPOOL_API const char *pypool_path(const struct pypool *p);

/* ---- blocking calls ----
 * Callbacks of submitted calls may run in them. *reply is written only on success and is the caller's to free. */

/* Waits for the answer to hello: {protocol, version, max_frame, features, role, pools}. Valid until the next connect. */
PYPOOL_API int pypool_hello(struct pypool *p, struct pypool_span *answer, uint32_t timeout_ms);
PYPOOL_API int pypool_ping(struct pypool *p, uint32_t timeout_ms);

/* Calls a handler. args: one encoded array (positional) or map with text keys (keywords); size 0 for none. */
PYPOOL_API int pypool_execute(struct pypool *p, const char *target, struct pypool_span args,
			      const struct pypool_options *options, struct pypool_reply **reply);
/* The same with arguments as pypool_packf() takes them, and without options. */
PYPOOL_API int pypool_executef(struct pypool *p, const char *target, struct pypool_reply **reply, const char *format,
			       ...);

/* With options->session the worker of that session. With options->direct a socket comes with the lease, and calls that name
 * the lease go straight to its worker, in their order; the functions are the same. Such a call is known to nobody but the
 * worker: if it must be stopped (pypool_cancel(), its timeout), the lease ends with it. */
PYPOOL_API int pypool_checkout(struct pypool *p, const struct pypool_options *options, struct pypool_lease *lease);
/* Calls under the lease that are not answered yet are cancelled. */
PYPOOL_API int pypool_checkin(struct pypool *p, uint64_t lease, uint32_t timeout_ms);

/* Of options: pool, ttl_ms, reset, timeout_ms. *state may be NULL. */
PYPOOL_API int pypool_session_open(struct pypool *p, const char *session, const struct pypool_options *options,
				   struct pypool_session *state);
/* *closed, unless NULL: 1, or 0 when there was no such session. Of options, here and below: pool, timeout_ms. */
PYPOOL_API int pypool_session_close(struct pypool *p, const char *session, const struct pypool_options *options,
				    int *closed);
/* The value under key (nil: there is none), or with key NULL a map of all values; as they are committed now. */
PYPOOL_API int pypool_session_get(struct pypool *p, const char *session, const char *key,
				  const struct pypool_options *options, struct pypool_reply **reply);
/* values: one encoded map, written as a whole. In turn with the session's calls. Of options also: queue_timeout_ms and
 * must_exist. */
PYPOOL_API int pypool_session_put(struct pypool *p, const char *session, struct pypool_span values,
				  const struct pypool_options *options);
/* n keys; *deleted, unless NULL, is how many of them there were. Of options also: queue_timeout_ms. */
PYPOOL_API int pypool_session_delete(struct pypool *p, const char *session, const char *const *keys, size_t n,
				     const struct pypool_options *options, uint64_t *deleted);

/* Any method of the protocol. params: one encoded map; size 0 for none. */
PYPOOL_API int pypool_call(struct pypool *p, const char *method, struct pypool_span params, uint32_t timeout_ms,
			   struct pypool_reply **reply);

/* ---- many calls in flight ---- */

/* Called exactly once for each call that was submitted with success: from pypool_dispatch(), from a blocking call, or
 * from pypool_disconnect() and pypool_free(). reply is the callback's to free; pypool_reply_error() tells failure. May
 * submit, cancel and disconnect. */
typedef void pypool_done(struct pypool *p, struct pypool_reply *reply, void *data);

/* Queue a call and return. *id, unless id is NULL, names it for pypool_cancel(). The arguments are copied. With the lease of
 * a direct checkout in its options, execute goes over the lease's socket; pypool_submit() never does. */
PYPOOL_API int pypool_submit_execute(struct pypool *p, const char *target, struct pypool_span args,
				     const struct pypool_options *options, pypool_done *done, void *data, uint64_t *id);
PYPOOL_API int pypool_submit(struct pypool *p, const char *method, struct pypool_span params, uint32_t timeout_ms,
			     pypool_done *done, void *data, uint64_t *id);
/* Asks the daemon to cancel a submitted call, which then answers `cancelled` (or its result, if that was faster). A direct
 * call is answered `cancelled` at once, and its lease ends if the worker has it in hand; one that waits there behind
 * another may yet run. -ENOENT: it is not in flight. Does not block. */
PYPOOL_API int pypool_cancel(struct pypool *p, uint64_t id);
/* Calls submitted and not answered. */
PYPOOL_API size_t pypool_in_flight(const struct pypool *p);

/* For poll(), level-triggered. Ask again after each dispatch, submit and cancel. While direct calls are in flight the fd is
 * that of an epoll, which stands for all sockets of the handle.
 * fd: negative errno while there is none (-EAGAIN: still connecting, wait for the timeout), which poll() ignores. */
PYPOOL_API int pypool_fd(const struct pypool *p);
PYPOOL_API short pypool_events(const struct pypool *p);
/* How long to wait at most: -1 for ever, 0 not at all. */
PYPOOL_API int pypool_timeout_ms(const struct pypool *p);
/* Does all that can be done without blocking: connects, sends, receives, ends calls that are over their time, runs
 * callbacks. 0, or why there is no connection. */
PYPOOL_API int pypool_dispatch(struct pypool *p);

/* ---- replies and errors ---- */

PYPOOL_API struct pypool_reply *pypool_reply_free(struct pypool_reply *reply); /* takes NULL; returns NULL */
/* NULL when the call succeeded. Belongs to the reply. */
PYPOOL_API const struct pypool_error *pypool_reply_error(const struct pypool_reply *reply);
/* The result, one encoded value that belongs to the reply; size 0 when the call failed. */
PYPOOL_API struct pypool_span pypool_reply_value(const struct pypool_reply *reply);

/* Why the last function on p that failed did so. Valid until the next call of a function on p. Never NULL. */
PYPOOL_API const struct pypool_error *pypool_last_error(const struct pypool *p);

/* The return value that goes with it, such as -EREMOTEIO. */
PYPOOL_API int pypool_error_number(const struct pypool_error *e);
/* One of the daemon's codes (docs/protocol.md), or of the library's own: cannot_connect connection_lost bad_reply
 * bad_argument wrong_process no_memory busy; "none" when nothing has failed. Never NULL. */
PYPOOL_API const char *pypool_error_code(const struct pypool_error *e);
/* A sentence for people. Never NULL. */
PYPOOL_API const char *pypool_error_message(const struct pypool_error *e);
PYPOOL_API enum pypool_executed pypool_error_executed(const struct pypool_error *e);
/* When it makes sense to try again; 0: not known. */
PYPOOL_API uint64_t pypool_error_retry_after_ms(const struct pypool_error *e);
/* The name of the session concerned, or "". */
PYPOOL_API const char *pypool_error_session(const struct pypool_error *e);
/* The post-mortem, one encoded map: traceback, stderr lines, stack, ...; size 0 when there is none. */
PYPOOL_API struct pypool_span pypool_error_cause(const struct pypool_error *e);
/* The daemon's whole error map; size 0 when the error is the library's own or came as text. */
PYPOOL_API struct pypool_span pypool_error_map(const struct pypool_error *e);
/* "never", "maybe", "yes". Static. */
PYPOOL_API const char *pypool_executed_name(enum pypool_executed executed);

/* ---- values ---- */

/* Packs arguments into one array, or with the prefix "**" and one {...} into a map (keywords). Letters of the format, and
 * the C arguments that each takes:
 *   s  const char *             text; NULL is nil
 *   t  const char *, size_t     text of that many bytes
 *   y  const void *, size_t     bytes
 *   b  int                      true or false
 *   i  int        u  unsigned        I  int64_t        U  uint64_t
 *   d  double
 *   n  (none)                   nil
 *   m  const void *, size_t     one value that is already encoded
 *   [ ]                         an array of what is between
 *   { }                         a map: key and value in turn
 * Spaces and commas mean nothing. *data is the caller's to free(). -EINVAL: bad format or bad encoded value. */
PYPOOL_API int pypool_packf(void **data, size_t *size, const char *format, ...);
PYPOOL_API int pypool_vpackf(void **data, size_t *size, const char *format, va_list args);

/* Read one value of the given type: 0, -EINVAL if it is another one, -ERANGE if it does not fit. */
PYPOOL_API int pypool_get_int(struct pypool_span value, int64_t *v);
PYPOOL_API int pypool_get_double(struct pypool_span value, double *v);              /* integers too */
PYPOOL_API int pypool_get_text(struct pypool_span value, struct pypool_span *text); /* str or bin; not NUL-terminated */
/* The value of a text key in a map, or the element of an array; -ENOENT when it is not there. */
PYPOOL_API int pypool_get_key(struct pypool_span map, const char *key, struct pypool_span *value);
PYPOOL_API int pypool_get_item(struct pypool_span array, size_t index, struct pypool_span *value);

#ifdef __cplusplus
}
#endif
