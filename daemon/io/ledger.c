#include "daemon/io/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/hash.h"
#include "daemon/base/mem.h"
#include "daemon/io/ledger_half.h"

#define KEEP_BYTES ((size_t)1024 * 1024) /* of the half that is not current, so that small ledgers fault in no pages */

struct entry_key {
	uint64_t id, kind;
};

/* Where the record of a kind and id lies in the current half. */
struct entry {
	struct entry_key key;
	size_t at;
	size_t len;                /* of its bytes */
	struct entry *prev, *next; /* of `order` */
	UT_hash_handle hh;
};

struct ledger {
	struct ledger_half halves[2];
	unsigned current; /* 0 or 1 */
	uint32_t epoch;   /* of the current half */
	bool is_void;
	struct entry *index; /* by key; owns */
	struct entry *order; /* the same, in the order of their last put */
	size_t live_bytes;   /* of their records */
};

/* --- the index --- */

static struct entry *index_find(const struct ledger *l, uint32_t kind, uint64_t id)
{
	const struct entry_key key = { .id = id, .kind = kind };
	struct entry *e;

	HASH_FIND(hh, l->index, &key, sizeof(key), e);
	return e;
}

static struct entry *index_add(struct ledger *l, uint32_t kind, uint64_t id)
{
	struct entry *e = MEM_NEW(struct entry);

	e->key = (struct entry_key){ .id = id, .kind = kind };
	HASH_ADD(hh, l->index, key, sizeof(e->key), e);
	return e;
}

static void index_put(struct ledger *l, uint32_t kind, uint64_t id, size_t at, size_t len)
{
	struct entry *e = index_find(l, kind, id);

	if (e) {
		l->live_bytes -= ledger_record_size(e->len);
		DL_DELETE(l->order, e);
	} else {
		e = index_add(l, kind, id);
	}
	e->at = at;
	e->len = len;
	l->live_bytes += ledger_record_size(len);
	DL_APPEND(l->order, e);
}

static void index_remove(struct ledger *l, struct entry *e)
{
	l->live_bytes -= ledger_record_size(e->len);
	DL_DELETE(l->order, e);
	HASH_DEL(l->index, e);
	free(e);
}

static void index_clear(struct ledger *l)
{
	struct entry *e, *tmp;

	HASH_CLEAR(hh, l->index);
	DL_FOREACH_SAFE(l->order, e, tmp)
		free(e);
	l->order = NULL;
	l->live_bytes = 0;
}

/* --- a new one --- */

/* Another one for each ledger, so that halves of two are not taken for one. */
static uint64_t identity_new(void)
{
	struct timespec ts;
	uint64_t identity;

	if (getrandom(&identity, sizeof(identity), GRND_NONBLOCK) == (ssize_t)sizeof(identity))
		return identity;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct ledger *ledger_alloc(void)
{
	struct ledger *l = MEM_NEW(struct ledger);

	l->halves[0].fd = l->halves[1].fd = -1;
	return l;
}

struct ledger *ledger_free(struct ledger *l)
{
	if (!l)
		return NULL;
	index_clear(l);
	ledger_half_close(&l->halves[0]);
	ledger_half_close(&l->halves[1]);
	free(l);
	return NULL;
}

struct ledger *ledger_new(void)
{
	struct ledger *l = ledger_alloc();
	uint64_t identity = identity_new();
	int r = ledger_half_open(&l->halves[0], 0, identity);

	if (r == 0)
		r = ledger_half_open(&l->halves[1], 1, identity);
	if (r < 0) {
		ledger_free(l);
		errno = -r;
		return NULL;
	}
	l->epoch = 1;
	ledger_half_set_epoch(&l->halves[0], l->epoch);
	return l;
}

/* --- that of another process --- */

/* 0 is that of a half which is not current. */
static uint32_t epoch_after(uint32_t epoch)
{
	return epoch + 1 ? epoch + 1 : 1;
}

/* Two of one ledger, each in its place in l->halves. NULL, or what is wrong. */
static const char *take_halves(struct ledger *l, int a, int b, struct ledger_half_state states[2], uint32_t *found)
{
	const int fds[] = { a, a == b ? -1 : b };
	struct ledger_half_state read[2] = { 0 };
	struct ledger_half halves[2];
	const char *wrong[2];

	for (unsigned i = 0; i < 2; i++)
		wrong[i] = ledger_half_take(&halves[i], fds[i], &read[i], found);
	memcpy(l->halves, halves, sizeof(halves)); /* to be closed, whichever is which */
	if (wrong[0])
		return wrong[0];
	if (a == b)
		return "its two memfds are one and the same";
	if (wrong[1])
		return wrong[1];
	if (read[0].identity != read[1].identity)
		return "its two memfds are of different ledgers";
	if (read[0].which == read[1].which)
		return "its two memfds are one and the same";
	for (unsigned i = 0; i < 2; i++) {
		l->halves[read[i].which] = halves[i];
		states[read[i].which] = read[i];
	}
	return NULL;
}

/* Both have an epoch where a process died right after it had made the second one current: the younger counts. */
static const char *choose_current(struct ledger *l, const struct ledger_half_state states[2])
{
	uint32_t a = states[0].epoch, b = states[1].epoch;

	if (states[0].why_void == LEDGER_VOID_WIPED || states[1].why_void == LEDGER_VOID_WIPED)
		return "it was wiped in an orderly end";
	if (states[0].why_void || states[1].why_void)
		return "it was given up for want of memory";
	if (!a && !b)
		return "neither of its memfds is current";
	if (a && b && epoch_after(a) != b && epoch_after(b) != a)
		return "both of its memfds are current";
	l->current = b && (!a || epoch_after(a) == b);
	l->epoch = states[l->current].epoch;
	return NULL;
}

static bool index_replay(struct ledger *l, const struct ledger_record *r, size_t at)
{
	struct entry *e;

	if (!r->removes) {
		index_put(l, r->kind, r->id, at, r->bytes.len);
		return true;
	}
	e = index_find(l, r->kind, r->id);
	if (e)
		index_remove(l, e);
	return e; /* nobody writes down that there is nothing to remove */
}

static const char *take_records(struct ledger *l, size_t committed)
{
	struct ledger_half *h = &l->halves[l->current];
	const char *wrong = ledger_half_take_records(h, committed);
	struct ledger_record r;

	for (size_t at = LEDGER_HALF_HEADER; !wrong && at < committed; at += r.size) {
		if (!ledger_half_read(h, at, &r) || !index_replay(l, &r, at))
			wrong = "a record of it is damaged";
	}
	return wrong;
}

struct ledger *ledger_take(int a, int b, char *why, size_t why_size)
{
	struct ledger *l = ledger_alloc();
	struct ledger_half_state states[2] = { 0 };
	uint32_t found = 0;
	const char *wrong = take_halves(l, a, b, states, &found);

	if (!wrong)
		wrong = choose_current(l, states);
	if (!wrong)
		wrong = take_records(l, states[l->current].committed);
	if (!wrong)
		return l;
	if (found)
		(void)snprintf(why, why_size, "its format is %u, and that of this version is %d", found, LEDGER_FORMAT);
	else
		(void)snprintf(why, why_size, "%s", wrong);
	return ledger_free(l);
}

int ledger_fd(const struct ledger *l, unsigned which)
{
	assert(which < 2);
	return l->halves[which].fd;
}

/* --- its end --- */

static void ledger_void(struct ledger *l, enum ledger_void why)
{
	l->is_void = true;
	index_clear(l);
	ledger_half_set_void(&l->halves[0], why);
	ledger_half_set_void(&l->halves[1], why);
}

void ledger_wipe(struct ledger *l)
{
	if (!l->is_void)
		ledger_void(l, LEDGER_VOID_WIPED);
}

bool ledger_is_void(const struct ledger *l)
{
	return l->is_void;
}

/* --- writing --- */

/* Reserved ahead: in proportion, so that growing costs each put the same however large it is. */
static size_t with_slack(size_t bytes)
{
	return bytes + (bytes / 4 > LEDGER_HALF_UNIT ? bytes / 4 : LEDGER_HALF_UNIT);
}

/* Writes the live records to the other half and makes it current. An epoch may still stand there, after a take: it is the elder
 * one, so nobody looks at what it covers. */
static int ledger_compact(struct ledger *l, size_t room)
{
	struct ledger_half *from = &l->halves[l->current], *to = &l->halves[!l->current];
	int r = ledger_half_reserve(to, with_slack(LEDGER_HALF_HEADER + l->live_bytes + room));
	struct entry *e;

	if (r < 0)
		return r;
	to->used = LEDGER_HALF_HEADER;
	DL_FOREACH(l->order, e)
		e->at = ledger_half_copy(to, from, e->at, ledger_record_size(e->len));
	ledger_half_commit(to);
	l->epoch = epoch_after(l->epoch);
	ledger_half_set_epoch(to, l->epoch); /* from here on it is current, by being the younger one */
	ledger_half_set_epoch(from, 0);
	ledger_half_release(from, from->mapped < KEEP_BYTES ? from->mapped : KEEP_BYTES);
	l->current = !l->current;
	return 0;
}

/* For a record of that size; false: it is void now. */
static bool ledger_make_room(struct ledger *l, size_t room)
{
	struct ledger_half *h = &l->halves[l->current];
	size_t superseded = h->used - LEDGER_HALF_HEADER - l->live_bytes;
	int r;

	if (room <= h->mapped - h->used)
		return true;
	if (superseded > l->live_bytes)
		r = ledger_compact(l, room);
	else
		r = ledger_half_reserve(h, with_slack(h->used + room));
	if (r < 0)
		ledger_void(l, LEDGER_VOID_NO_MEMORY);
	return r == 0;
}

bool ledger_put(struct ledger *l, uint32_t kind, uint64_t id, struct span bytes)
{
	struct ledger_half *h;
	size_t at;

	if (l->is_void)
		return false;
	if (bytes.len > LEDGER_RECORD_MOST) {
		ledger_void(l, LEDGER_VOID_NO_MEMORY);
		return false;
	}
	if (!ledger_make_room(l, ledger_record_size(bytes.len)))
		return false;
	h = &l->halves[l->current];
	at = ledger_half_append(h, kind, id, bytes);
	ledger_half_commit(h);
	index_put(l, kind, id, at, bytes.len);
	return true;
}

void ledger_remove(struct ledger *l, uint32_t kind, uint64_t id)
{
	struct entry *e = index_find(l, kind, id);
	struct ledger_half *h;

	if (!e || !ledger_make_room(l, ledger_record_size(0)))
		return;
	h = &l->halves[l->current];
	ledger_half_append_removal(h, kind, id);
	ledger_half_commit(h);
	index_remove(l, e);
}

/* --- reading --- */

static struct span entry_bytes(const struct ledger *l, const struct entry *e)
{
	return ledger_half_bytes(&l->halves[l->current], e->at, e->len);
}

bool ledger_find(const struct ledger *l, uint32_t kind, uint64_t id, struct span *bytes)
{
	const struct entry *e = index_find(l, kind, id);

	if (e)
		*bytes = entry_bytes(l, e);
	return e;
}

void ledger_each(const struct ledger *l, uint32_t kind, void (*each)(void *user, const struct ledger_entry *e),
		 void *user)
{
	const struct entry *e;

	DL_FOREACH(l->order, e) {
		if (e->key.kind != kind)
			continue;
		each(user, &(struct ledger_entry){ .kind = kind, .id = e->key.id, .bytes = entry_bytes(l, e) });
	}
}

size_t ledger_bytes(const struct ledger *l)
{
	return ledger_half_allocated(&l->halves[0]) + ledger_half_allocated(&l->halves[1]);
}
