/* A pool in the simulated world with all that it needs around it, and callers that write down what they are told. */
#pragma once

#include "daemon/pool/caller.h"
#include "daemon/pool/pool.h"
#include "tests/sim/sim_child.h"
#include "tests/sim/sim_keeper.h"

struct sim_stage {
	struct loop *loop; /* owns */
	struct blob_pool blobs;
	struct registry registry;
	struct gate gate;
	struct sim_machine machine;
	struct pool_settings settings;
	struct pool *pool; /* owns */
	unsigned n_settled, n_stopped, gate_limit;
	uint64_t seed;
	struct sim_keeper keeper; /* of what the pool's registry has kept, if it does */
};

/* What a pool is set to when a test does not care: one worker, and limits of seconds. */
struct pool_settings sim_settings(void);
/* Makes everything; the pool is not started. gate: how many may start at once. */
void sim_stage_init(struct sim_stage *s, const struct pool_settings *settings, unsigned gate, uint64_t seed,
		    const struct sim_machine_ops *ops);
/* Of a pool that is not started: what another daemon needs to go on is kept from now on. */
void sim_stage_keep(struct sim_stage *s);
/* The daemon dies: its fds are closed, and nobody hears anything of it any more. Then all that points into it is to be dropped. */
void sim_stage_cut(struct sim_stage *s);
/* After that, and without callers: its memory is freed. */
void sim_stage_bury(struct sim_stage *s);
/* Then another one begins, with what was kept. Its pool is not started. */
void sim_stage_come_back(struct sim_stage *s);
/* Starts the pool and lets it have workers. */
void sim_stage_start(struct sim_stage *s);
/* Ends and frees everything; callers must be gone. Returns how much was left over: fds, timers, tasks, children, blobs,
 * and a pool that did not stop. */
unsigned sim_stage_end(struct sim_stage *s, bool politely);

struct sim_answer {
	uint64_t id;
	enum error_code code;
	enum executed executed;
	bool abandoned;
	uint64_t value; /* of a success that is an integer */
	uint64_t lease; /* of a checkout */
	uint64_t retry_after_ms;
	uint64_t at; /* ns */
	bool has_cause;
	int fd; /* owns: the socket of a direct lease, for sim_pair_client_close(); -1: none */
	char message[1024];
};

/* A lease_lost. */
struct sim_news {
	uint64_t lease;
	char reason[32];
	bool has_cause;
	char message[512];
};

#define SIM_ANSWERS 64
#define SIM_NEWS 8

struct sim_caller {
	struct caller caller;
	struct sim_stage *stage; /* borrows */
	struct sim_answer answers[SIM_ANSWERS];
	unsigned n_answers;
	struct sim_news news[SIM_NEWS];
	unsigned n_news;
};

/* Of uid 1000. */
void sim_caller_init(struct sim_caller *c, struct sim_stage *s);
void sim_caller_init_as(struct sim_caller *c, struct sim_stage *s, uid_t uid);
/* NULL: not answered. Aborts when it was answered twice. */
const struct sim_answer *sim_caller_answer(const struct sim_caller *c, uint64_t id);

/* A request of c now; 0: the pool's own times. */
void sim_execute(struct sim_caller *c, uint64_t id, uint64_t timeout, uint64_t queue_timeout);
/* One with arguments of its own: an array of integers, size bytes (6 at the least), the first integer is flavour (< 128). */
void sim_execute_as(struct sim_caller *c, struct request_spec *spec, uint8_t flavour, size_t size, struct lease *l);
void sim_execute_leased(struct sim_caller *c, uint64_t id, struct lease *l);
void sim_checkout(struct sim_caller *c, uint64_t id, uint64_t ttl);
void sim_checkout_direct(struct sim_caller *c, uint64_t id, uint64_t ttl);
/* The same for a session, opened if need be: execute, checkout, and what else has spec->kind. False: it was refused, with the
 * code in the answer as if it had come. */
bool sim_submit_in(struct sim_caller *c, const char *session, struct request_spec *spec);
void sim_execute_in(struct sim_caller *c, uint64_t id, const char *session);
/* session.put with a map, session.delete with an array. */
void sim_edit(struct sim_caller *c, const char *session, uint64_t id, enum request_kind kind, struct span edit);
/* The counter of a session as the daemon has it; 0: there is none. */
uint64_t sim_session_n(const struct session *session);
