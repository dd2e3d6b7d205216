#include "daemon/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log_text.h"

#define LOG_PER_SECOND 1000
#define LOG_EVENTS 64 /* different events in one second that are told apart */
#define LOG_JOURNAL_SOCKET "/run/systemd/journal/socket"

enum log_sink {
	LOG_SINK_SHARED, /* fd 2 itself: not opened yet, or /proc is not there */
	LOG_SINK_FILE,   /* own non-blocking description of what `out` is */
	LOG_SINK_SOCKET, /* that is a socket, which cannot be opened again */
	LOG_SINK_JOURNAL,
	LOG_SINK_CLOSED,
};

struct log_rate {
	const char *event; /* borrows: event names are literals */
	int64_t second;
	uint64_t n;    /* records in that second */
	uint64_t over; /* of them dropped, not yet told */
};

struct log {
	enum log_sink sink;
	bool json;
	int fd; /* owns, with LOG_SINK_FILE and LOG_SINK_JOURNAL */
	int out; /* STDERR_FILENO, or STDOUT_FILENO for JSON: nothing else is written there */
	enum log_level level;
	const char *journal_socket; /* borrows: a literal, or the test's */
	uint64_t untold;            /* dropped by the sink since it last took a record */
	bool torn;                  /* the sink took a part of a line */
	uint64_t dropped, limited, bugs;
	int64_t second; /* of the last look for summaries that are due */
	struct log_rate rates[LOG_EVENTS];
};

/* The one global, see log.h. Until it is opened, errors go to stderr as they come. */
static struct log the_log = { .fd = -1, .out = STDERR_FILENO, .level = LOG_LEVEL_ERROR, .journal_socket = LOG_JOURNAL_SOCKET };

static int64_t log_second(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return now.tv_sec;
}

/* Does JOURNAL_STREAM name what fd 2 is? Whoever redirected our stderr elsewhere wants to find the log there. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	(void)snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino); /* always fits */
	return strcmp(stream, own) == 0;
}

static void log_open_journal(struct log *log)
{
	log->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (log->fd >= 0)
		log->sink = LOG_SINK_JOURNAL;
}

static void log_open_out(struct log *log)
{
	char path[32];
	struct stat st;

	if (fstat(log->out, &st) < 0) {
		log->sink = LOG_SINK_CLOSED;
		return;
	}
	if (S_ISSOCK(st.st_mode)) {
		log->sink = LOG_SINK_SOCKET;
		return;
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", log->out); /* fits */
	log->fd = open(path, O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY);
	log->sink = log->fd >= 0 ? LOG_SINK_FILE : LOG_SINK_SHARED;
}

void log_open(enum log_format format, enum log_level level)
{
	struct log *log = &the_log;

	cleanup_close(&log->fd);
	log->fd = -1;
	log->sink = LOG_SINK_SHARED;
	log->torn = false;
	log->level = level;
	log->json = format == LOG_FORMAT_JSON;
	log->out = log->json ? STDOUT_FILENO : STDERR_FILENO;
	if (format == LOG_FORMAT_AUTO && stderr_is_journal())
		log_open_journal(log);
	if (log->sink == LOG_SINK_SHARED)
		log_open_out(log);
}

void log_set_journal_socket(const char *path)
{
	the_log.journal_socket = path ? path : LOG_JOURNAL_SOCKET;
}

bool log_enabled(enum log_level level)
{
	return level <= the_log.level;
}

static ssize_t log_send_journal(struct log *log, const struct log_line *line)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (strlen(log->journal_socket) >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(sa.sun_path, log->journal_socket, strlen(log->journal_socket) + 1);
	/* addressed anew each time, so that a journal that was restarted is found again */
	return sendto(log->fd, line->text, line->len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&sa, sizeof(sa));
}

/* On a description that others share O_NONBLOCK must not be set; poll promises PIPE_BUF bytes of room in a pipe. */
static ssize_t log_send_shared(const struct log *log, const struct log_line *line)
{
	struct pollfd p = { .fd = log->out, .events = POLLOUT };

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
		errno = EAGAIN;
		return -1;
	}
	return write(log->out, line->text, line->len);
}

static ssize_t log_send_once(struct log *log, const struct log_line *line)
{
	switch (log->sink) {
	case LOG_SINK_SHARED:
		return log_send_shared(log, line);
	case LOG_SINK_FILE:
		return write(log->fd, line->text, line->len);
	case LOG_SINK_SOCKET:
		return send(log->out, line->text, line->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	case LOG_SINK_JOURNAL:
		return log_send_journal(log, line);
	case LOG_SINK_CLOSED:
		break;
	}
	errno = EBADF; /* nobody has set it, and an old EINTR would be tried for ever */
	return -1;
}

/* Full pipe, full disk, no reader: all the same to us. The line is not kept for later, since what is kept must be bounded
 * too and would then be lost at another place. */
static bool log_send(struct log *log, const struct log_line *line)
{
	ssize_t n;

	do
		n = log_send_once(log, line);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		log->torn = (size_t)n < line->len;
	return n == (ssize_t)line->len;
}

static bool log_put(struct log *log, enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	struct log_line line;

	if (log->sink == LOG_SINK_JOURNAL)
		log_line_journal(&line, level, event, fields, n);
	else if (log->json)
		log_line_json(&line, log->torn, level, event, fields, n);
	else
		log_line_text(&line, log->torn, level, event, fields, n);
	return log_send(log, &line);
}

/* Writes one record, and before it what was lost before it. */
static void log_emit(struct log *log, enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	const struct log_field lost[] = { KV("n", log->untold) };

	if (log->untold && log_put(log, LOG_LEVEL_WARN, "log.dropped", lost, 1))
		log->untold = 0;
	if (!log->untold && log_put(log, level, event, fields, n))
		return;
	log->untold++;
	log->dropped++;
}

static void log_rate_tell(struct log *log, struct log_rate *rate)
{
	const struct log_field fields[] = { KV("event", rate->event), KV("n", rate->over) };

	if (!rate->over)
		return;
	rate->over = 0;
	log_emit(log, LOG_LEVEL_WARN, "log.limited", fields, ARRAY_SIZE(fields));
}

/* Once a second: what was held back in earlier seconds is told, by whatever record comes next. */
static void log_rates_tell(struct log *log, int64_t second)
{
	if (log->second == second)
		return;
	log->second = second;
	for (size_t i = 0; i < LOG_EVENTS; i++) {
		if (log->rates[i].second != second)
			log_rate_tell(log, &log->rates[i]);
	}
}

/* NULL when more than LOG_EVENTS events happen in one second: then this one is not limited. */
static struct log_rate *log_rate_find(struct log *log, const char *event, int64_t second)
{
	size_t hash = 5381;

	for (const char *p = event; *p; p++)
		hash = hash * 33 + (unsigned char)*p;
	for (size_t i = 0; i < LOG_EVENTS; i++) {
		struct log_rate *rate = &log->rates[(hash + i) % LOG_EVENTS];

		if (rate->event && rate->second == second && strcmp(rate->event, event) != 0)
			continue;
		if (!rate->event || rate->second != second)
			*rate = (struct log_rate){ .event = event, .second = second };
		return rate;
	}
	return NULL;
}

static bool log_is_over_rate(struct log *log, const char *event)
{
	int64_t second = log_second();
	struct log_rate *rate;

	log_rates_tell(log, second);
	rate = log_rate_find(log, event, second);
	if (!rate || ++rate->n <= LOG_PER_SECOND)
		return false;
	rate->over++;
	log->limited++;
	return true;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	if (level != LOG_LEVEL_DEBUG && log_is_over_rate(&the_log, event))
		return;
	log_emit(&the_log, level, event, fields, n);
}

void log_skip(enum log_level level, const char *event, uint64_t n)
{
	int64_t second = log_second();
	struct log_rate *rate;

	if (!log_enabled(level))
		return;
	log_rates_tell(&the_log, second);
	rate = log_rate_find(&the_log, event, second);
	if (rate)
		rate->over += n;
	the_log.limited += n;
}

void log_bug(const char *what, const char *file, int line)
{
	const struct log_field fields[] = { KV("what", what), KV("file", file), KV("line", line) };

	the_log.bugs++;
	log_write(LOG_LEVEL_ERROR, "BUG", fields, ARRAY_SIZE(fields));
}

void log_close(void)
{
	struct log *log = &the_log;

	for (size_t i = 0; i < LOG_EVENTS; i++)
		log_rate_tell(log, &log->rates[i]);
	memset(log->rates, 0, sizeof(log->rates));
	cleanup_close(&log->fd);
	log->fd = -1;
	log->sink = LOG_SINK_CLOSED;
	log->level = 0;
}

uint64_t log_dropped(void)
{
	return the_log.dropped;
}

uint64_t log_limited(void)
{
	return the_log.limited;
}

uint64_t log_bugs(void)
{
	return the_log.bugs;
}
