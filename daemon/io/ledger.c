#include "daemon/io/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/ledger_half.h"
#include "daemon/io/ledger_index.h"

#define KEEP_BYTES ((size_t)1024 * 1024) /* of the half that is not current, so that small ledgers fault in no pages */
#define STEP_BYTES                                                                                                     \
	((size_t)1024 * 1024)       /* reserved ahead, or given back, in one put: it is done while the loop waits */
#define MOVE_BYTES LEDGER_HALF_UNIT /* copied to the other half in one put, and thrice its own size */

struct ledger {
	struct ledger_half halves[2];
	unsigned current; /* 0 or 1 */
	uint32_t epoch;   /* of the current half */
	bool is_void;
	struct ledger_index index; /* its walk is the move to the other half */
};

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
	ledger_index_clear(&l->index);
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

static bool replay(struct ledger *l, const struct ledger_record *r, size_t at)
{
	struct ledger_item *item;

	if (!r->removes) {
		ledger_index_put(&l->index, r->kind, r->id, r->bytes.len)->at[l->current] = at;
		return true;
	}
	item = ledger_index_find(&l->index, r->kind, r->id);
	if (item)
		ledger_index_remove(&l->index, item);
	return item; /* nobody writes down that there is nothing to remove */
}

static const char *take_records(struct ledger *l, size_t committed)
{
	struct ledger_half *h = &l->halves[l->current];
	const char *wrong = ledger_half_take_records(h, committed);
	struct ledger_record r;

	for (size_t at = LEDGER_HALF_HEADER; !wrong && at < committed; at += r.size) {
		if (!ledger_half_read(h, at, &r) || !replay(l, &r, at))
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
	ledger_index_clear(&l->index);
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

/* Reserves ahead, in proportion, so that growing costs small ledgers as little for each put as large ones. */
static int reserve_ahead(struct ledger_half *h, size_t bytes)
{
	size_t ahead = bytes / 4;

	if (bytes <= h->reserved)
		return 0;
	if (ahead < LEDGER_HALF_UNIT)
		ahead = LEDGER_HALF_UNIT;
	return ledger_half_reserve(h, bytes + (ahead < STEP_BYTES ? ahead : STEP_BYTES));
}

/* Begins to copy the live records to the other half, a part with each put: together they may be many megabytes. Until all are
 * there the current half goes on to be written, and it alone counts. An epoch may still stand in the other one, after a take: it
 * is the elder one, so nobody looks at what it covers. */
static void move_begin(struct ledger *l)
{
	struct ledger_half *to = &l->halves[!l->current];

	to->used = LEDGER_HALF_HEADER;
	ledger_half_release(to, to->reserved); /* what another process has left reserved */
	ledger_index_walk(&l->index);
}

static void move_end(struct ledger *l)
{
	struct ledger_half *from = &l->halves[l->current], *to = &l->halves[!l->current];

	ledger_half_commit(to);
	l->epoch = epoch_after(l->epoch);
	ledger_half_set_epoch(to, l->epoch); /* from here on it is current, by being the younger one */
	ledger_half_set_epoch(from, 0);
	l->current = !l->current;
}

/* Copies so many bytes or a little more; more than are put meanwhile, so that it comes to an end. */
static int move_on(struct ledger *l, size_t bytes)
{
	struct ledger_half *from = &l->halves[l->current], *to = &l->halves[!l->current];
	struct ledger_item *item;

	for (size_t end = to->used + bytes; to->used < end;) {
		size_t size;
		int r;

		item = ledger_index_step(&l->index);
		if (!item) {
			move_end(l);
			return 0;
		}
		size = ledger_record_size(item->len);
		r = reserve_ahead(to, to->used + size);
		if (r < 0)
			return r;
		item->at[!l->current] = ledger_half_copy(to, from, item->at[l->current], size);
		item->copied = epoch_after(l->epoch);
	}
	return 0;
}

/* It was copied in this move, or an earlier put of it was: the other half must learn of its removal. */
static int move_removal(struct ledger *l, const struct ledger_item *item)
{
	struct ledger_half *to = &l->halves[!l->current];
	int r = 0;

	if (l->index.walking && item->copied == epoch_after(l->epoch)) {
		r = reserve_ahead(to, to->used + ledger_record_size(0));
		if (r == 0)
			ledger_half_append_removal(to, (uint32_t)item->key.kind, item->key.id);
	}
	return r;
}

static void give_back(struct ledger_half *h)
{
	if (h->reserved > KEEP_BYTES + STEP_BYTES)
		ledger_half_release(h, h->reserved - STEP_BYTES);
	else if (h->reserved > KEEP_BYTES)
		ledger_half_release(h, KEEP_BYTES);
}

/* For a record of that size in what is then the current half; false: it is void now. */
static bool ledger_make_room(struct ledger *l, size_t size)
{
	const struct ledger_half *h = &l->halves[l->current];
	size_t superseded = h->used - LEDGER_HALF_HEADER - l->index.live_bytes;
	int r = 0;

	if (!l->index.walking && superseded > l->index.live_bytes && superseded > LEDGER_HALF_UNIT / 2)
		move_begin(l);
	if (l->index.walking)
		r = move_on(l, MOVE_BYTES + 3 * size);
	else
		give_back(&l->halves[!l->current]);
	if (r == 0)
		r = reserve_ahead(&l->halves[l->current], l->halves[l->current].used + size);
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
	ledger_index_put(&l->index, kind, id, bytes.len)->at[l->current] = at;
	return true;
}

void ledger_remove(struct ledger *l, uint32_t kind, uint64_t id)
{
	struct ledger_item *item = ledger_index_find(&l->index, kind, id);
	struct ledger_half *h;

	if (!item || !ledger_make_room(l, ledger_record_size(0)))
		return;
	if (move_removal(l, item) < 0) {
		ledger_void(l, LEDGER_VOID_NO_MEMORY);
		return;
	}
	h = &l->halves[l->current];
	ledger_half_append_removal(h, kind, id);
	ledger_half_commit(h);
	ledger_index_remove(&l->index, item);
}

/* --- reading --- */

static struct span item_bytes(const struct ledger *l, const struct ledger_item *item)
{
	return ledger_half_bytes(&l->halves[l->current], item->at[l->current], item->len);
}

bool ledger_find(const struct ledger *l, uint32_t kind, uint64_t id, struct span *bytes)
{
	const struct ledger_item *item = ledger_index_find(&l->index, kind, id);

	if (item)
		*bytes = item_bytes(l, item);
	return item;
}

void ledger_each(const struct ledger *l, uint32_t kind, void (*each)(void *user, const struct ledger_entry *e),
		 void *user)
{
	const struct ledger_item *item;

	DL_FOREACH(l->index.order, item) {
		if (item->key.kind != kind)
			continue;
		each(user, &(struct ledger_entry){ .kind = kind, .id = item->key.id, .bytes = item_bytes(l, item) });
	}
}

size_t ledger_bytes(const struct ledger *l)
{
	return ledger_half_allocated(&l->halves[0]) + ledger_half_allocated(&l->halves[1]);
}
