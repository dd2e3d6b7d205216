/* A directory for one configuration, and what was said about it. */
#pragma once

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/config.h"
#include "tests/support/suite.h"

#define POOL "pool x { app = a }\n"

struct desk {
	char dir[32];
	char file[64];
	char *said;            /* owns */
	struct config *config; /* owns */
};

#define _cleanup_desk_ __attribute__((cleanup(desk_deinit)))

struct desk desk_new(const char *text);
struct desk desk_accepted(const char *text);
void desk_deinit(struct desk *d);
void desk_put(struct desk *d, const char *name, const char *text);
void desk_load(struct desk *d, const struct config_request *request);
void desk_load_file(struct desk *d);

void check_said(const struct desk *d, const char *file, int line, const char *what);
void check_refused(const char *text, int line, const char *what);
