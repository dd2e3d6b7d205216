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
	unsigned min_workers, max_workers;
	uint64_t call_timeout, queue_timeout, init_timeout, cancel_grace, stop_timeout, lease_ttl;
	uint64_t max_timeout;
	unsigned max_queue;
	uint64_t max_reply;
	uint64_t limit_nofile, limit_as;
	bool has_user;
	uid_t uid;
	gid_t gid;
};
