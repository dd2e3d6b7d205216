/* Scope-bound release: acquire into a _cleanup_ variable, hand over with TAKE_PTR()/TAKE_FD() as the last step. */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define BIT(n) (1u << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define TAKE_PTR(p)                                                                                                      \
	({                                                                                                               \
		__typeof__(p) *pp_ = &(p);                                                                               \
		__typeof__(p) v_ = *pp_;                                                                                 \
		*pp_ = NULL;                                                                                             \
		v_;                                                                                                      \
	})
#define TAKE_FD(fd)                                                                                                      \
	({                                                                                                               \
		int *fdp_ = &(fd);                                                                                       \
		int v_ = *fdp_;                                                                                          \
		*fdp_ = -1;                                                                                              \
		v_;                                                                                                      \
	})

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* nothing can be done about a failed close of what is being dropped */
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_(fn) __attribute__((cleanup(fn)))
