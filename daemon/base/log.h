/*
 * One event, one record: a fixed dotted name and fields. To the journal by its native protocol when stderr is the journal's
 * (JOURNAL_STREAM), else one line: logfmt on stderr, JSON on stdout. Never blocks: what the sink does not take at once is dropped
 * and counted, and the count is logged when the sink takes records again. Values of outsiders are escaped: no newline or
 * terminal escape gets through.
 *
 * The log is the one global of the daemon: it has no other owner that outlives everything that may want to log.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* syslog's numbers */
enum log_level {
	LOG_LEVEL_ERROR = 3, /* someone must act */
	LOG_LEVEL_WARN = 4,  /* we coped */
	LOG_LEVEL_INFO = 6,  /* a state moved */
	LOG_LEVEL_DEBUG = 7, /* per request */
};

enum log_format {
	LOG_FORMAT_AUTO, /* journal when JOURNAL_STREAM names our stderr, else text */
	LOG_FORMAT_TEXT,
	LOG_FORMAT_JSON,
};

struct log_field {
	const char *key;
	enum { LOG_TEXT, LOG_UINT, LOG_INT, LOG_BYTES, LOG_ABSENT } kind;
	const char *text; /* LOG_TEXT (NULL is written as "-"), LOG_BYTES */
	size_t len;       /* LOG_BYTES */
	uint64_t number;  /* LOG_UINT, LOG_INT (as int64_t) */
};

static inline struct log_field log_kv_text(const char *key, const char *v)
{
	return (struct log_field){ .key = key, .kind = LOG_TEXT, .text = v };
}
static inline struct log_field log_kv_uint(const char *key, uint64_t v)
{
	return (struct log_field){ .key = key, .kind = LOG_UINT, .number = v };
}
static inline struct log_field log_kv_int(const char *key, int64_t v)
{
	return (struct log_field){ .key = key, .kind = LOG_INT, .number = (uint64_t)v };
}
static inline struct log_field log_kv_bytes(const char *key, const void *p, size_t n)
{
	return (struct log_field){ .key = key, .kind = LOG_BYTES, .text = p, .len = n };
}
static inline struct log_field log_kv_if_any(const char *key, const char *v)
{
	return (struct log_field){ .key = key, .kind = v && *v ? LOG_TEXT : LOG_ABSENT, .text = v };
}

#define KV(key, v)                                                                                                       \
	_Generic((v), char *                                                                                             \
		 : log_kv_text, const char *                                                                             \
		 : log_kv_text, unsigned char                                                                            \
		 : log_kv_uint, unsigned short                                                                           \
		 : log_kv_uint, unsigned                                                                                 \
		 : log_kv_uint, unsigned long                                                                            \
		 : log_kv_uint, unsigned long long                                                                       \
		 : log_kv_uint, bool                                                                                     \
		 : log_kv_uint, int                                                                                      \
		 : log_kv_int, long                                                                                      \
		 : log_kv_int, long long                                                                                 \
		 : log_kv_int)(key, v)
#define KV_BYTES(key, p, n) log_kv_bytes(key, p, n)
#define KV_IF_ANY(key, v) log_kv_if_any(key, v) /* text; without it the record has no such field */

#define LOG(level, event, ...)                                                                                           \
	do {                                                                                                             \
		if (log_enabled(LOG_LEVEL_##level)) {                                                                    \
			const struct log_field fields_[] = { __VA_ARGS__ };                                              \
			log_write(LOG_LEVEL_##level, event, fields_, sizeof(fields_) / sizeof(fields_[0]));              \
		}                                                                                                        \
	} while (0)

/* A broken promise inside the daemon: logged at ERROR as event "BUG"; tests look for it. Execution goes on. */
#define LOG_BUG(what) log_bug(what, __FILE__, __LINE__)

/* Opens its own non-blocking description of stderr (so that O_NONBLOCK is not set on one that others share). May be
 * called again to change level or format. */
void log_open(enum log_format format, enum log_level level);
void log_close(void);
/* Where the journal listens, for tests; NULL: its own place. The text is borrowed. */
void log_set_journal_socket(const char *path);
bool log_enabled(enum log_level level);
/* Records are limited per event name and second (1,000, DEBUG excepted); what is over is counted and summed up. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n);
/* n records of that event cannot be made any more: they count as over the limit. */
void log_skip(enum log_level level, const char *event, uint64_t n);
void log_bug(const char *what, const char *file, int line);
/* Records dropped since the start: by a full sink, and by the rate limit. */
uint64_t log_dropped(void);
uint64_t log_limited(void);
uint64_t log_bugs(void);
