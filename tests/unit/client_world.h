/* A daemon that a test plays itself, step by step, at the other end of a handle's socketpair. */
#pragma once

#include <stdbool.h>

#include "client/pypool.h"
#include "proto/span.h"

#define WAIT_MS 5000

/* What became of one submitted call. */
struct outcome {
	int n; /* times that the callback ran */
	int number;
	enum pypool_executed executed;
	char code[64];
	char message[256];
	int64_t value;
};

struct world {
	struct pypool *p;
	int daemon; /* the daemon's end */
};

/* A pypool_done that fills in a struct outcome. */
void outcome_on_done(struct pypool *p, struct pypool_reply *reply, void *data);

void fake_write(struct world *w, const void *data, size_t n);
void fake_send_frame(struct world *w, const void *body, size_t n);
void fake_answer_int(struct world *w, uint64_t id, int value);
void fake_answer_hello(struct world *w, uint64_t max_frame);
/* The error map `overloaded` with every field; has_id false: about the whole connection. */
void fake_answer_error(struct world *w, uint64_t id, bool has_id, const char *executed);
void fake_answer_text(struct world *w, uint64_t id, const char *text);
/* Reads the next request, which must be of this method. *params (may be NULL) is valid until the next one. */
uint64_t fake_expect(struct world *w, const char *method, struct span *params);

/* hello is sent, nothing is read. */
struct world world_new(void);
/* The daemon has read hello, and its answer lies in the socket. */
struct world world_greeted(void);
void world_free(struct world *w);
uint64_t world_submit(struct world *w, uint32_t timeout_ms, struct outcome *o);
/* Drives the loop until the outcome is there. */
void world_wait(struct world *w, struct outcome *o);

/* Whoever plays a part at the end of a socket may be one of these: a worker of a direct lease, too. */
struct world world_of(struct pypool *p, int fd);
/* A frame whose first byte brings n fds; they stay the caller's. */
void fake_send_frame_fds(struct world *w, const void *body, size_t n, const int *fds, unsigned n_fds);
/* Nothing to be read, and the peer is gone. */
bool fake_sees_end(struct world *w);
