#include "daemon/pool/handshake.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/text.h"

#define TEXT_KEPT (64 * 1024)

void handshake_deinit(struct handshake *h)
{
	free(h->type);
	free(h->message);
	free(h->file);
	free(h->traceback);
	free(h->summary);
	free(h->imported_by);
	free(h->wrong);
	free(h->stack);
	free(h->idempotent);
	free(h->unfit);
	free(h->fds);
	*h = (struct handshake){ 0 };
}

void handshake_close(struct handshake *h, uint64_t at)
{
	struct handshake_phase *last = h->n_phases ? &h->phases[h->n_phases - 1] : NULL;

	if (last && !last->ended)
		last->ended = at > last->begun ? at : last->begun;
}

void handshake_begin(struct handshake *h, const char *name, const char *module, uint64_t at)
{
	struct handshake_phase *ph;

	if (h->n_phases == HANDSHAKE_PHASES) { /* many modules: the last line stands for the rest */
		ph = &h->phases[HANDSHAKE_PHASES - 1];
		at = ph->begun;
	} else {
		handshake_close(h, at);
		ph = &h->phases[h->n_phases++];
	}
	*ph = (struct handshake_phase){ .begun = at };
	(void)snprintf(ph->name, sizeof(ph->name), "%s", name); /* longer names are cut */
	(void)snprintf(ph->module, sizeof(ph->module), "%s", module ? module : "");
	text_make_utf8(ph->name);
	text_make_utf8(ph->module);
}

const struct handshake_phase *handshake_last(const struct handshake *h)
{
	static const struct handshake_phase none = { .name = "exec" };

	return h->n_phases ? &h->phases[h->n_phases - 1] : &none;
}

static char *take_text(struct span s)
{
	char *text = mem_strndup(s.p, s.len < TEXT_KEPT ? s.len : TEXT_KEPT);

	text_make_utf8(text);
	return text;
}

/* The keys that control messages of a worker may have. */
struct news {
	bool session_close;
	uint64_t protocol, pid, t_ns, line, seq, worker, error, adopted;
	struct span python, codec, name, module, phase, type, message, file, traceback, summary, targets, imported_by, idempotent;
	struct span fork, unfit, fds;
};

static bool news_read_uint(struct span key, struct span *s, struct news *n, bool *known)
{
	const struct {
		const char *key;
		uint64_t *to;
	} uints[] = { { "protocol", &n->protocol }, { "pid", &n->pid }, { "t_ns", &n->t_ns },
		      { "line", &n->line },	    { "seq", &n->seq }, { "worker", &n->worker }, { "errno", &n->error },
		      { "adopted", &n->adopted } };

	for (size_t i = 0; i < ARRAY_SIZE(uints); i++) {
		if (!span_equals(key, uints[i].key))
			continue;
		*known = true;
		return mp_read_uint(s, uints[i].to) || mp_read_nil(s);
	}
	return true;
}

static bool news_read_text(struct span key, struct span *s, struct news *n, bool *known)
{
	const struct {
		const char *key;
		struct span *to;
	} texts[] = { { "python", &n->python }, { "codec", &n->codec },	    { "name", &n->name },
		      { "module", &n->module }, { "phase", &n->phase },	    { "type", &n->type },
		      { "message", &n->message }, { "file", &n->file }, { "traceback", &n->traceback },
		      { "summary", &n->summary }, { "fork", &n->fork },	    { "unfit", &n->unfit } };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!span_equals(key, texts[i].key))
			continue;
		*known = true;
		return mp_read_text(s, texts[i].to) || mp_read_nil(s);
	}
	return true;
}

/* Kept as it is, and looked into later. */
static bool news_read_raw(struct span key, struct span *s, struct news *n)
{
	struct span skipped;

	if (span_equals(key, "session_close"))
		return mp_read_bool(s, &n->session_close) || mp_read_nil(s);
	if (span_equals(key, "idempotent"))
		return mp_read_any(s, &n->idempotent);
	if (span_equals(key, "targets"))
		n->targets = *s;
	else if (span_equals(key, "fds"))
		n->fds = *s;
	else if (span_equals(key, "imported_by"))
		n->imported_by = *s;
	return mp_read_any(s, &skipped);
}

static bool news_read(struct span map, struct news *n)
{
	uint32_t pairs;

	*n = (struct news){ 0 };
	if (!map.len)
		return true;
	if (!mp_read_map(&map, &pairs))
		return false;
	while (pairs--) {
		struct span key;
		bool known = false;

		if (!mp_read_text(&map, &key) || !news_read_uint(key, &map, n, &known))
			return false;
		if (!known && !news_read_text(key, &map, n, &known))
			return false;
		if (!known && !news_read_raw(key, &map, n))
			return false;
	}
	return true;
}

static enum handshake_news take_hello(struct handshake *h, const struct news *n, struct complaint *c)
{
	if (h->hello) {
		complain(c, ERROR_WORKER_PROTOCOL, "the worker said hello twice");
		return HANDSHAKE_BROKEN;
	}
	if (n->protocol != HANDSHAKE_PROTOCOL) {
		complain(c, ERROR_WORKER_PROTOCOL,
			 "the worker speaks protocol %llu and this daemon %d: python_worker/ and pypoold are of different builds",
			 (unsigned long long)n->protocol, HANDSHAKE_PROTOCOL);
		return HANDSHAKE_BROKEN;
	}
	h->hello = true;
	(void)snprintf(h->python, sizeof(h->python), "%.*s", (int)n->python.len, (const char *)n->python.p);
	(void)snprintf(h->codec, sizeof(h->codec), "%.*s", (int)n->codec.len, (const char *)n->codec.p);
	text_make_utf8(h->python);
	text_make_utf8(h->codec);
	if (!h->adopt)
		handshake_begin(h, "library", NULL, n->t_ns); /* until the app's imports begin: the phases have no gap */
	return HANDSHAKE_HELLO;
}

void handshake_introduce(struct handshake *h, const struct handshake *parent)
{
	h->introduced = true;
	(void)snprintf(h->python, sizeof(h->python), "%s", parent->python);
	(void)snprintf(h->codec, sizeof(h->codec), "%s", parent->codec);
}

/* "a, b, c"; NULL when there is nothing. */
static char *join_texts(struct span array)
{
	char *text = NULL, *longer;
	struct span item;
	uint32_t n;

	if (!array.len || !mp_read_array(&array, &n))
		return NULL;
	while (n-- && mp_read_text(&array, &item)) {
		longer = mem_printf("%s%s%.*s", text ? text : "", text ? ", " : "", (int)item.len, (const char *)item.p);
		free(text);
		text = longer;
	}
	if (text)
		text_make_utf8(text);
	return text;
}

static void take_template(struct handshake *h, const struct news *n)
{
	(void)snprintf(h->fork, sizeof(h->fork), "%.*s", (int)n->fork.len, (const char *)n->fork.p);
	text_make_utf8(h->fork);
	h->unfit = n->unfit.len ? take_text(n->unfit) : NULL;
	h->fds = join_texts(n->fds);
}

static enum handshake_news take_forked(struct handshake *h, const struct news *n, struct complaint *c)
{
	if (!h->ready || !n->worker || (!n->pid == !n->error) || n->pid > INT32_MAX || n->error > 4095) {
		complain(c, ERROR_WORKER_PROTOCOL, "the template answered a fork with neither a pid nor an error");
		return HANDSHAKE_BROKEN;
	}
	h->forked = n->worker;
	h->forked_pid = n->pid;
	h->forked_errno = n->error;
	return HANDSHAKE_FORKED;
}

static enum handshake_news take_ready(struct handshake *h, const struct news *n, struct complaint *c)
{
	struct span targets = n->targets;
	uint32_t count = 0;

	if (h->ready || !h->hello) {
		complain(c, ERROR_WORKER_PROTOCOL, "the worker said ready %s", h->ready ? "twice" : "before hello");
		return HANDSHAKE_BROKEN;
	}
	h->ready = true;
	h->session_close = n->session_close;
	if (mp_read_array(&targets, &count))
		h->n_targets = count;
	if (n->idempotent.len) {
		h->idempotent = (uint8_t *)mem_strndup(n->idempotent.p, n->idempotent.len);
		h->idempotent_len = n->idempotent.len;
	}
	take_template(h, n);
	handshake_close(h, n->t_ns);
	return HANDSHAKE_READY;
}

static void take_importers(struct handshake *h, struct span rest)
{
	struct span array, copy = rest;
	uint32_t n;

	if (!mp_read_array(&copy, &n) || !mp_read_any(&rest, &array))
		return;
	h->imported_by = (uint8_t *)mem_strndup(array.p, array.len);
	h->imported_by_len = array.len;
}

static void take_failed(struct handshake *h, const struct news *n)
{
	if (h->failed)
		return; /* the first word counts */
	h->failed = true;
	h->type = take_text(n->type);
	h->message = take_text(n->message);
	h->file = n->file.len ? take_text(n->file) : NULL;
	h->line = n->line;
	h->traceback = take_text(n->traceback);
	h->summary = n->summary.len ? take_text(n->summary) : NULL;
	take_importers(h, n->imported_by);
}

static void take_phase(struct handshake *h, const struct news *n)
{
	_cleanup_free_ char *name = take_text(n->name);
	_cleanup_free_ char *module = take_text(n->module);

	handshake_begin(h, name, module, n->t_ns);
}

enum handshake_news handshake_take(struct handshake *h, struct span message, struct complaint *c)
{
	struct envelope e;
	struct news n;

	if (cursor_check(message) != CURSOR_DONE || !envelope_parse(message, &e, c) || e.type != ENVELOPE_NOTIFICATION ||
	    !news_read(e.params, &n)) {
		complain(c, ERROR_WORKER_PROTOCOL, "a control message of the worker is malformed");
		return HANDSHAKE_BROKEN;
	}
	if (n.adopted != h->adopt && (span_equals(e.method, "hello") || span_equals(e.method, "ready")))
		return HANDSHAKE_NOTHING; /* it was for the daemon of before */
	if (span_equals(e.method, "hello"))
		return take_hello(h, &n, c);
	h->hello |= h->introduced;
	if (span_equals(e.method, "ready"))
		return take_ready(h, &n, c);
	if (span_equals(e.method, "forked"))
		return take_forked(h, &n, c);
	if (span_equals(e.method, "phase"))
		take_phase(h, &n);
	else if (span_equals(e.method, "failed"))
		take_failed(h, &n);
	else if (span_equals(e.method, "pong"))
		h->pong = n.seq;
	return HANDSHAKE_NOTHING; /* unknown notifications are ignored, as on the client's wire */
}
