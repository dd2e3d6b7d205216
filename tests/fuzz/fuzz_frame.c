/*
 * The cursor against a reader by the letter of the specification and against msgpack-c; cursor and frame reader fed
 * in pieces against the same at once.
 *
 * msgpack-c reads nothing that the cursor has not accepted: it reserves gigabytes for hostile headers. What it
 * cannot read itself: more than 32 levels (MSGPACK_EMBED_STACK_SIZE), which it calls out of memory. It keeps
 * duplicate keys.
 */
#include <msgpack.h>

#include "daemon/base/cleanup.h"
#include "proto/frame.h"
#include "tests/fuzz/food.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/reference.h"

#define FRAMES_MAX 512
#define MSGPACK_DEPTH 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_with_msgpack(struct span value, unsigned depth)
{
	msgpack_unpacked result;
	msgpack_unpack_return r;
	size_t off = 0;

	msgpack_unpacked_init(&result);
	r = msgpack_unpack_next(&result, (const char *)value.p, value.len, &off);
	if (depth <= MSGPACK_DEPTH)
		MUST(r == MSGPACK_UNPACK_SUCCESS && off == value.len, "msgpack-c says %d, at %zu of %zu", (int)r, off,
		     value.len);
	else
		MUST(r != MSGPACK_UNPACK_PARSE_ERROR, "msgpack-c cannot read what the cursor accepts");
	msgpack_unpacked_destroy(&result);
}

static void check_cursor(struct span s)
{
	struct reference reference = reference_read(s);
	struct cursor c;
	size_t used = 0;
	enum cursor_status status;

	cursor_init(&c, s.len);
	status = cursor_feed(&c, s.p, s.len, &used);
	MUST((status == CURSOR_DONE) == reference.ok, "the cursor says %s, the specification %s",
	     cursor_status_text(status), reference.ok ? "well formed" : "not well formed");
	if (status != CURSOR_DONE)
		return;
	MUST(used == reference.len, "the cursor sees %zu bytes, the specification %zu", used, reference.len);
	MUST((cursor_check(s) == CURSOR_DONE) == (used == s.len), "cursor_check() says otherwise");
	check_with_msgpack((struct span){ .p = s.p, .len = used }, reference.depth);
}

/* Sizes of pieces, from a seed. */
static size_t piece(uint64_t *seed, size_t max)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	if (max == 0)
		return 0;
	return 1 + (*seed >> 33) % (max < 9 ? max : *seed >> 62 ? 9 : max);
}

static void check_cursor_in_pieces(struct span s, uint64_t seed, uint64_t limit)
{
	struct cursor whole, cut;
	size_t used = 0, total = 0, n;
	enum cursor_status at_once, status;

	cursor_init(&whole, limit);
	at_once = cursor_feed(&whole, s.p, s.len, &used);
	cursor_init(&cut, limit);
	status = cursor_feed(&cut, s.p, 0, &n);
	while (status == CURSOR_MORE && total < s.len) {
		size_t size = piece(&seed, s.len - total);

		status = cursor_feed(&cut, s.p + total, size, &n);
		MUST(n <= size && (status != CURSOR_MORE || n == size), "%zu of %zu bytes used", n, size);
		total += n;
	}
	/* a cut header that is too deep and has no room is refused for the latter, before all of it came */
	if (at_once == CURSOR_TOO_DEEP && status == CURSOR_TOO_MANY)
		return;
	MUST(status == at_once, "at once: %s; in pieces: %s", cursor_status_text(at_once), cursor_status_text(status));
	MUST(status > CURSOR_MORE || total == used, "at once %zu bytes, in pieces %zu", used, total);
}

/* What a stream of bytes comes to. */
struct reading {
	size_t starts[FRAMES_MAX], lens[FRAMES_MAX];
	unsigned n;
	enum frame_status status;
	enum cursor_status why;
	uint64_t place;
};

/* Reads as daemon/io/stream.c does. seed 0: at once. */
static void read_frames(struct reading *out, struct span s, enum frame_mode mode, uint32_t max_frame, uint64_t seed)
{
	struct frame_reader r;
	struct frame f;
	char text[FRAME_TEXT];
	size_t start = 0, end = 0, need = 0;

	*out = (struct reading){ .status = FRAME_MORE };
	frame_reader_init(&r, mode, max_frame);
	while (out->status == FRAME_MORE && end < s.len && out->n < FRAMES_MAX) {
		end += seed ? piece(&seed, s.len - end) : s.len;
		while (out->n < FRAMES_MAX &&
		       (out->status = frame_next(&r, s.p + start, end - start, &f)) == FRAME_READY) {
			MUST(f.taken >= need && f.taken <= end - start, "%zu taken, %zu were needed", f.taken, need);
			MUST(f.body.p + f.body.len == s.p + start + f.taken, "the body does not end the frame");
			MUST(cursor_check(f.body) == CURSOR_DONE, "a body that is no value");
			out->starts[out->n] = (size_t)(f.body.p - s.p);
			out->lens[out->n++] = f.body.len;
			start += f.taken;
			need = 0;
		}
		if (out->status == FRAME_MORE) {
			MUST(f.need > end - start || start == end, "%zu needed, %zu there", f.need, end - start);
			MUST(f.need <= (size_t)max_frame + FRAME_PREFIX, "%zu needed, over the limit", f.need);
			need = f.need;
		}
	}
	out->why = out->status == FRAME_BAD ? r.why : CURSOR_DONE;
	out->place = out->status == FRAME_BAD ? r.place : 0;
	MUST(out->place <= s.len - start, "wrong at a byte that did not come");
	MUST(frame_status_text(&r, out->status, text)[0], "no text");
	frame_reader_deinit(&r);
}

static void check_frames(struct span s, enum frame_mode mode, uint32_t max_frame, uint64_t seed)
{
	struct reading whole, cut;

	read_frames(&whole, s, mode, max_frame, 0);
	read_frames(&cut, s, mode, max_frame, seed | 1);
	if (whole.why == CURSOR_TOO_DEEP && cut.status == FRAME_TOO_LARGE)
		return; /* as above */
	MUST(whole.n == cut.n, "at once %u frames, in pieces %u", whole.n, cut.n);
	for (unsigned i = 0; i < whole.n; i++)
		MUST(whole.starts[i] == cut.starts[i] && whole.lens[i] == cut.lens[i], "frame %u differs", i);
	if (whole.n == FRAMES_MAX)
		return;
	MUST(whole.status == cut.status && whole.why == cut.why, "at once %d/%d, in pieces %d/%d", whole.status,
	     whole.why, cut.status, cut.why);
	MUST(whole.place == cut.place, "at once wrong at byte %llu, in pieces at %llu", (unsigned long long)whole.place,
	     (unsigned long long)cut.place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint32_t limits[] = { FRAME_MAX_LIMIT, 4096, 64, 1 };
	struct food f = { .left = { .p = data, .len = len } };
	uint64_t seed = food_byte(&f);
	uint32_t limit = limits[seed % ARRAY_SIZE(limits)];

	check_cursor(f.left);
	check_cursor_in_pieces(f.left, seed, limit);
	for (int mode = FRAME_UNKNOWN; mode <= FRAME_PREFIXED; mode++)
		check_frames(f.left, (enum frame_mode)mode, limit, seed);
	return 0;
}
