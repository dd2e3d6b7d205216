/*
 * Configuration: a file (and its conf.d) becomes one immutable struct, or a complaint with file:line. A reload makes a new
 * one or changes nothing.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "daemon/base/log.h"
#include "daemon/config_source.h"
#include "daemon/front/access.h"
#include "daemon/pool/account.h"
#include "daemon/pool/settings.h"

struct config {
	char *socket;         /* absolute path, at most 107 bytes */
	unsigned socket_mode; /* 0660 */
	bool has_socket_group;
	gid_t socket_group;
	enum log_level log_level;
	enum log_format log_format;
	uint32_t max_frame;
	unsigned max_clients;
	unsigned start_concurrency; /* resolved: never 0 */
	bool require_all;
	uint64_t frame_timeout, drain_timeout;
	unsigned uid_max_connections;
	struct account_limits account_limits;
	struct access access;
	struct pool_settings *pools; /* owns: n_pools of them */
	unsigned n_pools;
	struct config_source source; /* where each option is given */
	struct config *older; /* owns: the one that this one took the place of, as long as a pool is set to it */
};

/* What the command line adds. */
struct config_request {
	const char *file;    /* NULL: the default file, which may be missing when app is given */
	const char *socket;  /* overrides the file's */
	const char *app;     /* makes one pool "default" when no file is there */
	unsigned workers;    /* with app; 0: 2 */
	const char *library; /* directory that holds python_worker/ */
	char *const *argv;   /* how the daemon was called, for an upgrade */
	const char *program; /* where it lies; NULL: not known */
};

/* NULL after writing every complaint to `complaints`, one a line: file:line: what is wrong and what is accepted. */
struct config *config_load(const struct config_request *request, FILE *complaints);
struct config *config_free(struct config *c);
/* NULL: there is none of this name. */
const struct pool_settings *config_find_pool(const struct config *c, const char *name);
/* The same names in the same order. */
bool config_has_same_pools(const struct config *c, const struct config *other);
bool config_holds(const struct config *c, const struct pool_settings *settings);
