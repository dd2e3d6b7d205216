/* What came back for one call: a value or an error. A reply owns the bytes that its spans point into. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/handle.h"
#include "proto/errors.h"

struct pypool_reply *answer_new(void)
{
	struct pypool_reply *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->error.message = "no error";
	memcpy(r->error.code, "none", sizeof("none"));
	return r;
}

void answer_clear(struct pypool_reply *r)
{
	free(r->bytes);
	free(r->error.message_owned);
	free(r->error.session_owned);
	*r = (struct pypool_reply){ .error.message = "" };
}

struct pypool_reply *pypool_reply_free(struct pypool_reply *reply)
{
	if (!reply)
		return NULL;
	answer_clear(reply);
	free(reply);
	return NULL;
}

static void answer_set_code(struct pypool_reply *r, struct span code)
{
	size_t n = code.len < sizeof(r->error.code) - 1 ? code.len : sizeof(r->error.code) - 1;

	memcpy(r->error.code, code.p, n);
	r->error.code[n] = '\0';
}

void answer_fail(struct pypool_reply *r, int number, const char *code, enum pypool_executed executed,
		 const char *format, va_list args)
{
	char *text = NULL;

	/* Formatted first: the arguments may be part of what is cleared. */
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	answer_clear(r);
	r->failed = true;
	r->error.number = number;
	r->error.executed = executed;
	answer_set_code(r, span_str(code));
	r->error.message_owned = text;
	r->error.message = text ? text : "out of memory while describing an error";
}

void answer_failf(struct pypool_reply *r, int number, const char *code, enum pypool_executed executed,
		  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_fail(r, number, code, executed, format, args);
	va_end(args);
}

void answer_set_cause(struct pypool_reply *r, struct span cause)
{
	uint8_t *copy = cause.len ? malloc(cause.len) : NULL;

	if (!copy)
		return;
	memcpy(copy, cause.p, cause.len);
	free(r->bytes);
	r->bytes = copy;
	r->error.cause = (struct pypool_span){ .data = copy, .size = cause.len };
}

static bool executed_find(struct span text, enum pypool_executed *executed)
{
	for (int e = PYPOOL_NEVER; e <= PYPOOL_YES; e++) {
		if (span_equals(text, pypool_executed_name((enum pypool_executed)e))) {
			*executed = (enum pypool_executed)e;
			return true;
		}
	}
	return false;
}

static void answer_set_message(struct pypool_reply *r, struct span text)
{
	r->error.message_owned = strndup((const char *)text.p, text.len);
	r->error.message = r->error.message_owned ? r->error.message_owned : "out of memory";
}

/* "code: message (executed: never)", the shape before the daemon has read hello. */
static void answer_parse_text(struct pypool_reply *r, struct span text)
{
	static const char mark[] = " (executed: ";
	const uint8_t *colon = text.len ? memchr(text.p, ':', text.len) : NULL;
	const uint8_t *tail = text.len ? memrchr(text.p, '(', text.len) : NULL;
	size_t mark_len = sizeof(mark) - 1, end = text.len, start = 0;

	if (colon) {
		answer_set_code(r, (struct span){ .p = text.p, .len = (size_t)(colon - text.p) });
		start = (size_t)(colon - text.p) + 1;
		if (start < end && text.p[start] == ' ')
			start++;
	}
	if (tail && tail > text.p + start && text.p[end - 1] == ')' && end - (size_t)(tail - text.p) + 1 > mark_len &&
	    memcmp(tail - 1, mark, mark_len) == 0) {
		const uint8_t *word = tail - 1 + mark_len;

		if (executed_find((struct span){ .p = word, .len = (size_t)(text.p + end - 1 - word) },
				  &r->error.executed))
			end = (size_t)(tail - 1 - text.p);
	}
	answer_set_message(r, (struct span){ .p = text.p + start, .len = end - start });
}

static void answer_parse_field(struct pypool_reply *r, struct span key, struct span value)
{
	struct span text = { 0 }, whole = value;

	if (span_equals(key, "code") && mp_read_text(&value, &text))
		answer_set_code(r, text);
	else if (span_equals(key, "message") && !r->error.message_owned && mp_read_text(&value, &text))
		answer_set_message(r, text);
	else if (span_equals(key, "executed") && mp_read_text(&value, &text))
		(void)executed_find(text, &r->error.executed); /* an unknown word: "maybe" stays */
	else if (span_equals(key, "retry_after_ms"))
		(void)mp_read_uint(&value, &r->error.retry_after_ms); /* of another type: not known */
	else if (span_equals(key, "session") && !r->error.session_owned && mp_read_text(&value, &text))
		r->error.session_owned = strndup((const char *)text.p, text.len); /* without memory: not known */
	else if (span_equals(key, "cause"))
		r->error.cause = span_give(whole);
}

static void answer_parse_map(struct pypool_reply *r, struct span map, uint32_t n)
{
	for (; n > 0; n--) {
		struct span key = { 0 }, value = { 0 }, any;

		if (!mp_read_text(&map, &key) && !mp_read_any(&map, &any))
			return;
		if (!mp_read_any(&map, &value))
			return;
		if (key.p)
			answer_parse_field(r, key, value);
	}
}

static void answer_parse_error(struct pypool_reply *r, struct span error)
{
	struct span rest = error, text;
	uint32_t n;

	r->failed = true;
	r->error.number = -EREMOTEIO;
	r->error.executed = PYPOOL_MAYBE; /* what is safe to believe when the daemon does not say */
	r->error.message = "the daemon gave no message";
	answer_set_code(r, SPAN_LIT("internal"));
	if (mp_read_text(&rest, &text)) {
		answer_parse_text(r, text);
	} else if (mp_read_map(&rest, &n)) {
		r->error.map = span_give(error);
		answer_parse_map(r, rest, n);
	}
}

void answer_fill(struct pypool_reply *r, struct span error, struct span result, uint8_t *steal)
{
	struct span nil = error;
	bool failed = !mp_read_nil(&nil);
	struct span kept = failed ? error : result;

	answer_clear(r);
	if (steal) {
		r->bytes = steal;
	} else {
		r->bytes = malloc(kept.len);
		if (!r->bytes) {
			answer_failf(r, -ENOMEM, "no_memory", PYPOOL_MAYBE, "out of memory for an answer of %zu bytes",
				     kept.len);
			return;
		}
		memcpy(r->bytes, kept.p, kept.len);
		kept.p = r->bytes;
	}
	if (failed)
		answer_parse_error(r, kept);
	else
		r->value = span_give(kept);
}

const struct pypool_error *pypool_reply_error(const struct pypool_reply *reply)
{
	return reply->failed ? &reply->error : NULL;
}

struct pypool_span pypool_reply_value(const struct pypool_reply *reply)
{
	return reply->value;
}

int pypool_error_number(const struct pypool_error *e)
{
	return e->number;
}

const char *pypool_error_code(const struct pypool_error *e)
{
	return e->code;
}

const char *pypool_error_message(const struct pypool_error *e)
{
	return e->message;
}

enum pypool_executed pypool_error_executed(const struct pypool_error *e)
{
	return e->executed;
}

uint64_t pypool_error_retry_after_ms(const struct pypool_error *e)
{
	return e->retry_after_ms;
}

const char *pypool_error_session(const struct pypool_error *e)
{
	return e->session_owned ? e->session_owned : "";
}

struct pypool_span pypool_error_cause(const struct pypool_error *e)
{
	return e->cause;
}

struct pypool_span pypool_error_map(const struct pypool_error *e)
{
	return e->map;
}

const char *pypool_executed_name(enum pypool_executed executed)
{
	switch (executed) {
	case PYPOOL_NEVER:
		return "never";
	case PYPOOL_YES:
		return "yes";
	case PYPOOL_MAYBE:
		break;
	}
	return "maybe";
}
