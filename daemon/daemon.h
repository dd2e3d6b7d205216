/* The root object: owns loop, pools and server; decides the order of start and stop. */
#pragma once

#include "daemon/base/blob.h"
#include "daemon/config.h"
#include "daemon/front/server.h"
#include "daemon/io/cgroups.h"
#include "daemon/io/oom.h"
#include "daemon/io/strays.h"
#include "daemon/io/systemd.h"
#include "daemon/inheritance.h"
#include "daemon/keeping.h"
#include "daemon/pool/handover.h"
#include "daemon/pool/pool.h"
#include "daemon/upgrade.h"

#define DAEMON_EXIT_CONFIG 78 /* another start would say the same */

enum daemon_phase {
	DAEMON_STARTING, /* not every pool has settled */
	DAEMON_RUNNING,
	DAEMON_DRAINING, /* told to stop: running calls finish */
	DAEMON_CLOSING,  /* no worker is left, clients get their last bytes */
};

struct daemon {
	struct config *config; /* owns: the last that was read, and older ones that are in use */
	const struct config *first; /* the one that it was started with: what cannot be changed is as it says */
	const struct config_request *request; /* borrows: main's */
	const char *library;   /* borrows: main's */
	struct loop *loop;     /* owns */
	struct blob_pool blobs;
	struct registry registry;
	struct gate gate;
	struct strays strays;
	struct oom oom;
	struct cgroups groups;
	struct systemd_watchdog watchdog;
	struct loop_signal term, intr, hup;
	struct loop_timer drain_timer;
	struct loop_timer trim_timer; /* frees a large blob that nobody has used for a while */
	struct loop_task stop; /* leaves the loop at the end of a turn */
	bool over;             /* for good: an upgrade that leaves it in the same turn comes too late */
	struct pool **pools;   /* owns */
	unsigned n_pools;
	unsigned n_settled, n_stopped;
	struct server server;
	struct keeping keeping;
	struct upgrade upgrade;
	struct handover_callers callers; /* while what was handed over is taken */
	enum daemon_phase phase;
	int exit_code;
};

/* Runs until it is told to stop. Takes config, which `request` made and will make again at a reload, and the socket
 * out of passed if there is one: then no other is opened. left: what a daemon before this one has left, see keeping.h. Returns the exit
 * code; errors are on stderr. */
int daemon_run(struct config *config, const struct config_request *request, struct named_fds *passed, struct named_fds *left,
	       struct inheritance *inheritance);

/* For an upgrade. NULL: there is none of that name. */
struct pool *daemon_find_pool(const struct daemon *d, struct span name);
/* Why the daemon cannot hand over what it has now; NULL: it can. Static. */
const char *daemon_obstacle(const struct daemon *d);
/* ns that something may take which calls are waited for. */
uint64_t daemon_patience(const struct daemon *d);
