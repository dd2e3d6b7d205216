/*
 * What one pool was configured with: plain, immutable data, filled by daemon/config.c. Times are ns, sizes bytes; 0 switches
 * a limit off. docs/configuration.md describes each by its name in the file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pool_settings {
	char *name;
	char *app;          /* module whose exposed functions may be called */
	char *python;       /* absolute path */
	char **path;        /* NULL-terminated: directories for sys.path */
	char **modules;     /* NULL-terminated: more modules whose exposed functions may be called as module:function */
	char **environment; /* NULL-terminated: NAME=value, the whole environment of a worker */
	char *warmup;       /* module:function, or NULL */
	char **preload;     /* NULL-terminated: modules that are imported before the app */
	bool start_fork;    /* workers are forked from a template, else each has an interpreter of its own */
	unsigned min_workers, max_workers; /* while max_workers are being replaced, there may be pool_surge() more */
	unsigned spare_workers; /* kept idle, as long as there are fewer than max_workers */
	uint64_t call_timeout, queue_timeout, init_timeout, cancel_grace, stop_timeout, lease_ttl;
	uint64_t max_timeout;
	uint64_t slow_call;      /* a call that runs longer is logged with its stack */
	uint64_t idle_timeout;   /* after which a worker above the minimum leaves */
	uint64_t max_requests;   /* calls after which a worker is replaced, ± 10 % */
	uint64_t max_age;        /* the same for its time since ready */
	uint64_t max_rss;        /* and, without jitter, for its resident memory */
	bool replace_after;      /* it leaves before its replacement starts, for what only one may hold */
	uint64_t ping_interval;  /* of workers that wait for a call */
	unsigned breaker_failures; /* failures in a row that open the breaker */
	uint64_t breaker_reset;  /* after which an open breaker is tried again */
	unsigned poison_kills;   /* workers that one call may cost before it is refused */
	char *record_failures;   /* absolute directory, or NULL */
	bool affinity_prefer;       /* a session may move to another worker between two calls */
	uint64_t session_ttl;       /* after which a session that is not used ends */
	unsigned max_sessions;
	unsigned session_reserve;   /* workers that strict sessions leave to others; one at least is theirs */
	uint64_t session_max_bytes; /* of the values of one session */
	uint64_t drain_timeout;     /* that a worker which is to be replaced goes on for its sessions */
	unsigned max_queue;
	uint64_t max_reply;
	uint64_t limit_nofile, limit_as;
	uint64_t limit_memory, limit_pids; /* of a worker and all that it starts together */
	bool has_user;
	uid_t uid;
	gid_t gid;
};
