/* Length-prefixed frames for the benchmark's programs: blocking, minimal, not for outside bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct frames {
	int fd;
	uint8_t *buf; /* owns */
	size_t room, start, end;
};

void frames_init(struct frames *f, int fd);
/* The next whole frame, prefix included, that lies in the buffer; NULL: read more. */
uint8_t *frames_next(struct frames *f, size_t *len);
/* One read. False at the end of the stream. */
int frames_fill(struct frames *f);
void put_all(int fd, const void *p, size_t len);
void die(const char *what) __attribute__((noreturn));
/* Starts `python bare_worker.py` with one end of a socket pair as its fd 3; returns the other end. */
int spawn_bare_worker(const char *python, const char *script);
