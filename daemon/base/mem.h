/*
 * Memory for the daemon's own small records. When even these cannot be had the daemon logs one line and aborts (libev does
 * the same): docs/decisions/out-of-memory.md. What an outsider sizes is a blob instead, and may fail.
 */
#pragma once

#include <stddef.h>

/* Logs and aborts: also for a library that has found no memory and left its own records in pieces. */
void mem_exhausted(size_t size) __attribute__((noreturn));
/* Zeroed; never NULL. */
void *mem_new(size_t size) __attribute__((returns_nonnull, malloc));
/* reallocarray that never returns NULL for n > 0. */
void *mem_resize(void *p, size_t n, size_t size);
/* NULL for NULL. */
char *mem_strdup(const char *s);
char *mem_strndup(const void *s, size_t n) __attribute__((returns_nonnull, malloc));
char *mem_printf(const char *format, ...) __attribute__((returns_nonnull, malloc, format(printf, 1, 2)));

#define MEM_NEW(type) ((type *)mem_new(sizeof(type)))
