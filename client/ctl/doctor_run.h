/* A program that is run to be asked something: as another user if need be, with an end to its time and to what it may say. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct doctor_run {
	char *const *argv;
	char *const *envp; /* NULL: ours */
	uid_t uid;         /* who it runs as, when we are root; else it is us */
	uint32_t timeout_ms;
};

struct doctor_said {
	int status; /* of wait(2) */
	char *out, *err; /* own: NUL-terminated, cut at 1 MiB */
	size_t out_len, err_len;
};

/* 0, or a negative errno: -ETIMEDOUT, and it was killed with what it has started; there may be no out or err then.
 * doctor_said_free() in any case. */
int doctor_run(const struct doctor_run *run, struct doctor_said *said);
void doctor_said_free(struct doctor_said *said);
