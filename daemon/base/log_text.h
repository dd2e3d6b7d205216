/*
 * The bytes of one log record in its three forms. Whatever the values hold, text and JSON come out as one line of less
 * than PIPE_BUF bytes (so that a pipe takes all of it or nothing) and no form lets a control character through. What does
 * not fit is cut, and the record says so.
 */
#pragma once

#include "daemon/base/log.h"

#define LOG_LINE_MAX 4095     /* text and JSON, newline included; PIPE_BUF is 4096 */
#define LOG_JOURNAL_MAX 16384 /* one datagram */

struct log_line {
	size_t len;
	size_t limit; /* how far the values may go */
	bool cut;
	char text[LOG_JOURNAL_MAX];
};

/* torn: begin with a newline, because the sink took only a part of the line before. */
void log_line_text(struct log_line *line, bool torn, enum log_level level, const char *event,
		   const struct log_field *fields, size_t n);
void log_line_json(struct log_line *line, bool torn, enum log_level level, const char *event,
		   const struct log_field *fields, size_t n);
/* In the journal's native protocol: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, PYPOOL_EVENT and PYPOOL_<KEY>. */
void log_line_journal(struct log_line *line, enum log_level level, const char *event, const struct log_field *fields,
		      size_t n);
