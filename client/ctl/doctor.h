/* pypoolctl doctor: what is wrong with a daemon, or will be, and what to do about it. Each doctor_*.c looks at one subject and
 * tells what it finds; docs/decisions/doctor.md says what it may use. */
#pragma once

#include <sys/types.h>

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "proto/cursor.h"

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_WARNING, /* it works, until it does not */
	DOCTOR_ERROR,   /* it does not work */
};

struct doctor_finding {
	enum doctor_level level;
	const char *check; /* static: the subject */
	char *pool;        /* owns; NULL: the daemon */
	char *message;     /* owns */
	char *advice;      /* owns; NULL: none is needed */
};

enum doctor_answer { ANSWER_STATUS, ANSWER_POOLS, ANSWER_WORKERS, ANSWER_CONFIG, ANSWER_N };

struct doctor {
	struct ctl *ctl;
	bool imports;     /* run the pools' interpreters for the time of each module */
	const char *file; /* borrows; --config, when no daemon answers */
	const char *unit; /* borrows; --unit */
	bool reached;     /* a daemon answers, and this is its process: */
	pid_t pid;
	uid_t uid;
	struct pypool_reply *replies[ANSWER_N]; /* own */
	struct span answers[ANSWER_N];          /* borrow; len 0: not known */
	void *shown;                            /* owns: what pypoold --show has said, in the place of ANSWER_CONFIG */
	struct doctor_finding *findings;        /* owns: n of them */
	unsigned n;
};

/* One more finding. pool: NUL-terminated, or NULL. */
void doctor_tell(struct doctor *d, enum doctor_level level, const char *check, const char *pool, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* What to do about the last one. */
void doctor_advise(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Of the configuration. value of an option of a map of options; len 0 when it is not known. */
struct span doctor_option(struct span options, const char *name);
uint64_t doctor_number(struct span options, const char *name);
/* Text as a string, for the caller to free; NULL when there is none. */
char *doctor_text(struct span value);
/* A list of texts, NULL-terminated; never NULL but without memory. doctor_list_free() takes NULL. */
char **doctor_list(struct span value);
void doctor_list_free(char **list);
/* For each map of a list, with its "name" (or "pool") as a string. */
void doctor_each(struct doctor *d, struct span list, void (*one)(struct doctor *d, struct span map, const char *name));
/* Each pool of the configuration, with its options; nothing when it is not known. */
void doctor_each_pool(struct doctor *d, void (*one)(struct doctor *d, struct span options, const char *name));
/* Whom the workers of a pool run as: its user, else the daemon's. */
uid_t doctor_worker_uid(const struct doctor *d, struct span options);
/* The most workers that all pools may have, templates included; 0: not known. */
uint64_t doctor_workers(struct doctor *d);

void doctor_check_socket(struct doctor *d);
void doctor_check_daemon(struct doctor *d);
void doctor_check_files(struct doctor *d); /* of the configuration */
void doctor_check_pools(struct doctor *d);
void doctor_check_python(struct doctor *d);
void doctor_check_options(struct doctor *d);
void doctor_check_limits(struct doctor *d);
void doctor_check_memory(struct doctor *d);
void doctor_check_unit(struct doctor *d);

/* The time of each module, in the pool's interpreter. */
void doctor_check_imports(struct doctor *d, struct span options, const char *pool);
