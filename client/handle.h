/*
 * The inside of a handle. A handle owns its socket to the daemon, the sockets of its direct leases, the frames that wait to
 * be sent, the calls in flight and the calls that are answered but not yet delivered. Rules:
 * - a call is in exactly one of `in_flight` and `answered`, and leaves the latter only through calls_deliver();
 * - callbacks run only in calls_deliver(), which is never entered twice;
 * - everything that ends the connection goes through handle_lose(), everything that ends a direct lease through
 *   lease_close().
 */
#pragma once

#include <stdbool.h>

#include "client/pypool.h"
#include "proto/frame.h"

#define CLIENT_READ_BYTES 65536 /* least room for one read */
#define CLIENT_GRACE_MS 250     /* the daemon's own answer to a missed deadline may be this late */
#define CLIENT_TIMEOUT_MAX (UINT32_C(1) << 31)
#define CLIENT_FDS_MAX 16 /* received and not yet claimed by their frames */

struct lease;

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
	char *session_owned; /* owns, may be NULL */
	struct pypool_span cause;
	struct pypool_span map;
};

struct pypool_reply {
	uint8_t *bytes;           /* owns */
	struct pypool_span value; /* in bytes */
	bool failed;
	struct pypool_error error;
};

/* What the library itself wants to know of an answer. */
enum call_kind {
	CALL_PLAIN,
	CALL_CHECKOUT, /* if nobody waits for it any more, the lease is given back */
	CALL_CHECKIN,  /* the socket of a direct lease is closed with its answer */
	CALL_NEWS,     /* no call: a notification on its way to the user, which has waited for nothing */
};

struct call {
	struct call *prev;
	struct call *next;
	struct call *chain; /* next in the same bucket */
	struct link *link;  /* borrows: lease_close() and calls_lose() answer its calls first */
	enum call_kind kind;
	bool direct;    /* CALL_CHECKOUT: a socket may come with the answer */
	uint64_t lease; /* CALL_CHECKIN: its number */
	uint64_t id;
	uint64_t deadline_ns; /* 0: none */
	struct outgoing *out; /* borrows: NULL once the frame is wholly sent */
	struct pypool_reply
		*reply;    /* owns; made with the call, so that failing needs no memory; NULL once it is delivered */
	pypool_done *done; /* NULL: nobody waits, the answer is dropped */
	void *data;
};

/* One socket, with what is on its way out and in. */
struct link {
	struct pypool *p;     /* borrows: owns it */
	struct lease *lease;  /* borrows: it is inside of that one; NULL: the connection to the daemon */
	int fd;               /* owns; -1: none */
	struct outgoing *out; /* owns; utlist */
	int send_error;       /* the peer takes no more bytes, but may still have sent some */
	struct frame_reader reader;
	uint8_t *in; /* owns */
	size_t in_len;
	size_t in_size;
	uint32_t watched; /* events that the handle's epoll waits for; 0: it does not know the socket */
};

struct pypool {
	struct link main;
	int pid;       /* of the process that made the handle */
	uint8_t *mark; /* owns: a page that is empty in any other process; NULL: there is none */
	size_t mark_size;
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

	struct lease *leases;    /* owns; utlist: the direct ones */
	struct lease *buried;    /* owns; utlist: have ended, see leases_bury() */
	int epoll;               /* owns; -1: no direct call has been submitted yet */
	size_t n_direct_calls;   /* in flight on sockets of leases */
	size_t n_sockets_due;    /* checkouts in flight whose answers may bring a socket */
	int fds[CLIENT_FDS_MAX]; /* own: received, in order; their frames are not read yet */
	size_t n_fds;

	pypool_notify *notify; /* NULL: notifications are dropped */
	void *notify_data;

	struct call *in_flight; /* owns; utlist, in the order of their submission */
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
/* This process has made it, and is no forked child of that one. */
bool handle_is_ours(const struct pypool *p);
/* 0, or -EPERM in a forked child. */
int handle_check(struct pypool *p);
static inline bool handle_is_up(const struct pypool *p)
{
	return p->main.fd >= 0 || p->retry_ns;
}
/* Nothing is under way, and nothing waits to be delivered. */
static inline bool handle_is_quiet(const struct pypool *p)
{
	return p->n_in_flight == 0 && !p->answered && !p->main.out;
}
/* Ends the connection and its direct leases; calls in flight become answered with connection_lost. *p->last is the reason
 * and is kept. */
void handle_lose(struct pypool *p, int number);
/* pypool_dispatch() but for its checks. */
int handle_turn(struct pypool *p);

/* watch.c */
/* The handle's fd stands for several sockets as long as direct calls are in flight. */
static inline bool watch_is_on(const struct pypool *p)
{
	return p->n_direct_calls > 0;
}
/* The epoll of the handle waits for this link too. 0 or a negative errno. */
int watch_add(struct link *link);
/* Its wish to send has changed. */
void watch_update(struct link *link);
/* Its fd is about to be closed. */
void watch_remove(struct link *link);
/* Reads from all that are ready. */
void watch_read(struct pypool *p);

/* connect.c */
/* One more attempt, if it is due. */
void connect_continue(struct pypool *p, uint64_t now_ns);

/* transport.c */
/* [0, id, method, [ with its prefix, for params of body_len bytes; what comes next is an empty map if there are none. */
struct scratch;
void transport_pack_head(struct scratch *head, uint64_t id, const char *method, size_t body_len);
struct outgoing *transport_frame(uint64_t id, const char *method, const struct span *params, size_t n);
/* Sends what the socket takes. */
void transport_flush(struct link *link);
/* Receives what is there and answers calls; loses the connection, or the lease, at its end. */
void transport_read(struct link *link);
bool transport_make_room(struct link *link, size_t need);
void transport_drop(struct link *link, struct outgoing *out);
void transport_init(struct link *link, struct pypool *p, struct lease *lease, int fd);
/* Everything but the fd. */
void transport_deinit(struct link *link);

struct response {
	bool is_news; /* a notification: `method` and `result`, its params */
	bool has_id;
	uint64_t id;
	struct span method;
	struct span error;
	struct span result;
};
/* [1, id or nil, error, result], or [2, method, [params]] */
bool response_parse(struct span body, struct response *out);

/* calls.c */
/* params: pieces that together are one encoded map. limit_ms 0: none. */
int call_submit(struct pypool *p, struct link *link, const char *method, const struct span *params, size_t n,
		uint32_t limit_ms, pypool_done *done, void *data, uint64_t *id);
/* A call that is under way already: out is what is left of its frame, or NULL. NULL: no memory. */
struct call *call_resume(struct pypool *p, struct link *link, uint64_t id, struct outgoing *out, uint64_t deadline_ns,
			 pypool_done *done, void *data);
/* -EMSGSIZE, recorded, when the daemon takes no frame of so many bytes. */
int call_check_size(struct pypool *p, size_t bytes);
struct call *call_find(struct pypool *p, uint64_t id);
/* Moves a call whose reply is filled in to `answered`. */
void call_answer(struct pypool *p, struct call *call);
/* The calls of a lease: the eldest is the one that its worker runs, or has next. NULL: none. */
struct call *calls_eldest(struct pypool *p, const struct link *link);
void calls_lose(struct pypool *p);
void calls_expire(struct pypool *p, uint64_t now_ns);
/* A notification waits for its callback. False: no memory. */
bool calls_add_news(struct pypool *p, struct span method, struct span params);
void calls_deliver(struct pypool *p);
/* Frees all calls without a word. */
void calls_deinit(struct pypool *p);

/* lease.c */
/* A direct lease that has not ended. NULL: there is none. */
struct lease *lease_find(struct pypool *p, uint64_t id);
uint64_t lease_id(const struct lease *l);
struct link *lease_link(struct lease *l);
/* Its socket is at its end, or it is being given back: it takes no more calls. */
bool lease_is_over(const struct lease *l);
/* A checkout is answered. Takes its socket, or gives back a lease that nobody waits for. False: the answer makes no
 * sense. */
bool lease_note_checkout(struct pypool *p, struct call *call, const struct response *resp);
/* A checkin of this lease has been submitted. */
void lease_note_leaving(struct pypool *p, uint64_t id);
/* It is answered, whatever the answer is. */
void lease_note_checkin(struct pypool *p, const struct call *call);
/* A notification of the daemon. */
void lease_note_news(struct pypool *p, const struct response *resp);
/* The socket is at its end, or broken (errno). Its calls wait a moment for the daemon's word why. */
void lease_note_end(struct lease *l, int error);
/* What came over the socket is no protocol. */
void lease_note_bad(struct lease *l, const char *what);
/* Ends it from here, the only way to stop what its worker runs. */
void lease_give_up(struct lease *l, const char *why);
void leases_expire(struct pypool *p, uint64_t now_ns);
/* Time of the next leases_expire(); 0: none. */
uint64_t leases_due(const struct pypool *p);
void leases_flush(struct pypool *p);
/* The connection is lost, and the leases with it; their calls have been answered. */
void leases_lose(struct pypool *p);
/* Frees those that have ended. Not to be called from inside of one. */
void leases_bury(struct pypool *p);
/* In a forked child: frees, and closes its copies of the sockets. */
void leases_deinit(struct pypool *p);
/* pypool_execute(): there and back with one write and one read, when nothing else is under way. */
int lease_execute(struct lease *l, const struct span *params, size_t n, uint32_t limit_ms, struct pypool_reply **out);
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
/* Adds a copy of the cause to a failure of the library's own; without memory its message has to do. */
void answer_set_cause(struct pypool_reply *r, struct span cause);
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
