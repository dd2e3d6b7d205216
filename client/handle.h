/*
 * The inside of a handle. A handle owns its socket, the frames that wait to be sent, the calls in flight and the calls
 * that are answered but not yet delivered. Rules:
 * - a call is in exactly one of `in_flight` and `answered`, and leaves the latter only through calls_deliver();
 * - callbacks run only in calls_deliver(), which is never entered twice;
 * - everything that ends a connection goes through handle_lose().
 */
#pragma once

#include <stdbool.h>

#include "client/pypool.h"
#include "proto/frame.h"

#define CLIENT_READ_BYTES 65536 /* least room for one read */
#define CLIENT_GRACE_MS 250     /* the daemon's own answer to a missed deadline may be this late */
#define CLIENT_TIMEOUT_MAX (UINT32_C(1) << 31)

/* One frame on its way out. */
struct outgoing {
	struct outgoing *prev;
	struct outgoing *next;
	struct call *call; /* borrows: cut by whichever of the two ends first; NULL: nobody waits for this frame */
	size_t len;
	size_t sent;
	uint8_t data[];
};

struct pypool_error {
	int number;
	char code[48];
	const char *message;
	char *message_owned; /* owns, may be NULL */
	enum pypool_executed executed;
	uint64_t retry_after_ms;
	struct pypool_span cause;
	struct pypool_span map;
};

struct pypool_reply {
	uint8_t *bytes;           /* owns */
	struct pypool_span value; /* in bytes */
	bool failed;
	struct pypool_error error;
};

struct call {
	struct call *prev;
	struct call *next;
	struct call *chain; /* next in the same bucket */
	uint64_t id;
	uint64_t deadline_ns; /* 0: none */
	struct outgoing *out; /* borrows: NULL once the frame is wholly sent */
	struct pypool_reply
		*reply;    /* owns; made with the call, so that failing needs no memory; NULL once it is delivered */
	pypool_done *done; /* NULL: nobody waits, the answer is dropped */
	void *data;
};

struct pypool {
	int fd;  /* owns; -1: none */
	int pid; /* of the process that made the handle */
	uint32_t timeout_ms;
	uint32_t max_frame; /* of a frame that we send */
	uint64_t next_id;
	uint64_t seed; /* of the jitter */
	char *name;    /* owns */
	char *path;    /* owns */
	bool delivering;

	uint64_t retry_ns; /* connecting: time of the next attempt; 0: not connecting */
	uint64_t give_up_ns;
	uint32_t pause_ms;

	struct outgoing *out; /* owns; utlist */
	int send_error;       /* the daemon takes no more bytes, but may still have sent some */

	struct frame_reader reader;
	uint8_t *in; /* owns */
	size_t in_len;
	size_t in_size;

	struct call *in_flight; /* owns; utlist */
	struct call *answered;  /* owns; utlist */
	struct call **buckets;  /* owns */
	size_t n_buckets;       /* power of two, or 0 */
	size_t n_in_flight;
	uint64_t next_deadline_ns; /* no call is due before; 0: none has a deadline */

	uint64_t hello_id;
	struct pypool_reply *hello; /* owns; the answer to hello */
	struct pypool_reply *last;  /* owns; the last failure; never NULL */
	int lost;                   /* why there is no connection */
};

/* pypool.c */
uint64_t handle_now_ns(void);
/* Records a failure that is the library's own word; returns number. */
int handle_fail(struct pypool *p, int number, const char *code, enum pypool_executed executed, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* Records the failure of a reply and takes the reply; returns its number. */
int handle_fail_reply(struct pypool *p, struct pypool_reply *reply);
/* 0, or -EPERM in a forked child. */
int handle_check(struct pypool *p);
static inline bool handle_is_up(const struct pypool *p)
{
	return p->fd >= 0 || p->retry_ns;
}
/* Ends the connection; calls in flight become answered with connection_lost. *p->last is the reason and is kept. */
void handle_lose(struct pypool *p, int number);

/* connect.c */
/* One more attempt, if it is due. */
void connect_continue(struct pypool *p, uint64_t now_ns);

/* transport.c */
struct outgoing *transport_frame(uint64_t id, const char *method, const struct span *params, size_t n);
/* Sends what the socket takes. */
void transport_flush(struct pypool *p);
/* Receives what is there and answers calls; loses the connection at its end. */
void transport_read(struct pypool *p);
void transport_drop(struct pypool *p, struct outgoing *out);
void transport_deinit(struct pypool *p);

/* calls.c */
/* params: pieces that together are one encoded map. limit_ms 0: none. */
int call_submit(struct pypool *p, const char *method, const struct span *params, size_t n, uint32_t limit_ms,
		pypool_done *done, void *data, uint64_t *id);
struct call *call_find(struct pypool *p, uint64_t id);
/* Moves a call whose reply is filled in to `answered`. */
void call_answer(struct pypool *p, struct call *call);
void calls_lose(struct pypool *p);
void calls_expire(struct pypool *p, uint64_t now_ns);
void calls_deliver(struct pypool *p);
/* Frees all calls without a word. */
void calls_deinit(struct pypool *p);

/* execute.c */
/* Room for the small part of a params map: names and numbers. */
struct scratch {
	size_t len;
	uint8_t bytes[2048];
};
int scratch_write(void *data, const char *buf, size_t len); /* msgpack_packer_write */
static inline struct span scratch_span(const struct scratch *s)
{
	return (struct span){ .p = s->bytes, .len = s->len };
}

/* reply.c */
struct pypool_reply *answer_new(void);
void answer_clear(struct pypool_reply *r);
void answer_fail(struct pypool_reply *r, int number, const char *code, enum pypool_executed executed,
		 const char *format, va_list args);
void answer_failf(struct pypool_reply *r, int number, const char *code, enum pypool_executed executed,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Fills an empty reply from the parts of a response. steal: the malloced buffer that holds them and that the reply takes
 * over, or NULL: they are copied. */
void answer_fill(struct pypool_reply *r, struct span error, struct span result, uint8_t *steal);
static inline struct span span_of(struct pypool_span s)
{
	return (struct span){ .p = (const uint8_t *)s.data, .len = s.size };
}
static inline struct pypool_span span_give(struct span s)
{
	return (struct pypool_span){ .data = s.p, .size = s.len };
}
