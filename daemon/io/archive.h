/*
 * A directory of records, bounded: when there are too many or too large ones, the eldest are deleted. Records are files
 * that only their owner can read, named PREFIX-TIME-NUMBER.call; no other file is ever touched. Nothing here waits for
 * more than a file system to take the bytes of one record, and whoever asks for a record to be kept need not care whether
 * it could be: errors are logged, once a minute.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

#define ARCHIVE_SUFFIX ".call"

struct archive_record;

struct archive {
	char *path;   /* owns */
	char *prefix; /* owns */
	unsigned max_records;
	uint64_t max_bytes;
	int fd;                         /* of the directory; -1: not open */
	struct archive_record *records; /* list, eldest first; owns */
	unsigned n_records;
	uint64_t bytes;
	uint64_t complained; /* ns, 0: never */
	unsigned n_failures; /* since then */
};

/* The directory is made (0700) with the first record at the latest; one that others may write to, or that is not ours,
 * is refused. */
void archive_init(struct archive *a, const char *path, const char *prefix, unsigned max_records, uint64_t max_bytes);
void archive_deinit(struct archive *a);
/* Opens it now, so that what is wrong with it is known early. 0 or a negative errno, which is logged. */
int archive_open(struct archive *a);
/* Keeps one record, made of parts. 0 or a negative errno, which is logged. -EFBIG: larger than all that may be kept. */
int archive_keep(struct archive *a, uint64_t wall_ms, uint64_t number, const struct span *parts, unsigned n_parts);
