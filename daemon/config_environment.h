/*
 * The environment of a worker: little of the daemon's own, so that nothing of it leaks into user code by accident, then one
 * thread per worker for numeric libraries, then what the pool says.
 */
#pragma once

/* Whose HOME, USER, LOGNAME and SHELL a worker sees. */
struct config_identity {
	const char *name, *home, *shell;
};

/* NULL-terminated, owned by the caller. own: the daemon's environment; identity: NULL for the daemon's own user; entries:
 * the pool's, NULL-terminated, each NAME=value. A later one wins over an earlier one of the same name. */
char **config_environment_new(char *const *own, const struct config_identity *identity, char *const *entries);
