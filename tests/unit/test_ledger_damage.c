/* What is damaged, or is no ledger, is refused with the right sentence. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/ledger.h"
#include "daemon/io/ledger_half.h"
#include "tests/support/suite.h"
#include "tests/unit/ledger_support.h"

static char why[200];

/* The places of the words in the header, which are the layout of format 1. */
enum {
	AT_FORMAT = 8,
	AT_WHICH = 12,
	AT_IDENTITY = 16,
	AT_CHECK = 24,
	AT_VOID = 32,
	AT_EPOCH = 40,
	AT_COMMITTED = 48,
	AT_END = 56
};

/* A ledger after so many steps of a model, with its bytes to be changed. */
struct victim {
	struct ledger *l;
	struct model model;
	uint8_t *bytes[2];
	size_t committed[2];
};

static void victim_begin(struct victim *v, unsigned n_steps)
{
	*v = (struct victim){ .l = ledger_new(), .model = { .seed = 1 } };
	for (unsigned i = 0; i < n_steps; i++) {
		struct model_op op = model_op(1, i);

		ck_assert(ledger_do(v->l, &op));
		model_step(&v->model);
	}
	for (unsigned i = 0; i < 2; i++) {
		uint32_t eights;

		v->bytes[i] = mmap(NULL, LEDGER_HALF_UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, ledger_fd(v->l, i), 0);
		ck_assert_ptr_ne(v->bytes[i], MAP_FAILED);
		memcpy(&eights, v->bytes[i] + AT_COMMITTED, sizeof(eights));
		v->committed[i] = 8 * (size_t)eights;
	}
}

static void victim_end(struct victim *v)
{
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(munmap(v->bytes[i], LEDGER_HALF_UNIT), 0);
	ledger_free(v->l);
}

/* True: refused; else nothing has changed. */
static bool is_refused(const struct victim *v)
{
	struct ledger *taken = ledger_retake(v->l, why, sizeof(why));

	if (!taken)
		return true;
	ck_assert(model_is(&v->model, taken));
	ledger_free(taken);
	return false;
}

static void ck_refused(const struct victim *v, const char *sentence)
{
	ck_assert(is_refused(v));
	ck_assert_str_eq(why, sentence);
}

static void flip(const struct victim *v, unsigned half, size_t at, uint8_t bits, bool must_refuse)
{
	v->bytes[half][at] ^= bits;
	if (!is_refused(v))
		ck_assert_msg(!must_refuse, "half %u, byte %zu, bits %x", half, at, bits);
	v->bytes[half][at] ^= bits;
}

START_TEST(each_flipped_byte_or_bit_of_what_is_committed_is_refused)
	{
		struct victim v;

		victim_begin(&v, 25);
		ck_assert_uint_gt(v.committed[0], LEDGER_HALF_HEADER + 500);
		ck_assert(!is_refused(&v));
		for (unsigned half = 0; half < 2; half++) {
			for (size_t at = 0; at < LEDGER_HALF_HEADER; at += at < AT_END ? 1 : 61)
				flip(&v, half, at, 0xff, at < AT_END);
			for (size_t at = 0; at < AT_END; at++) {
				for (unsigned bit = 0; bit < 8; bit++)
					flip(&v, half, at, (uint8_t)BIT(bit), true);
			}
		}
		for (size_t at = LEDGER_HALF_HEADER; at < v.committed[0]; at++) {
			flip(&v, 0, at, 0xff, true);
			flip(&v, 0, at, (uint8_t)BIT(at % 8), true);
		}
		ck_assert(!is_refused(&v));
		victim_end(&v);
	}
END_TEST

START_TEST(what_is_not_committed_is_of_no_meaning)
	{
		struct victim v;

		victim_begin(&v, 25);
		memset(v.bytes[0] + v.committed[0], 0xaa, LEDGER_HALF_UNIT - v.committed[0]);
		memset(v.bytes[1] + LEDGER_HALF_HEADER, 0xaa, LEDGER_HALF_UNIT - LEDGER_HALF_HEADER);
		ck_assert(!is_refused(&v));
		victim_end(&v);
	}
END_TEST

/* Of one word into the same word of another half, where its check is right. */
static void move(struct victim *v, unsigned half, size_t to, const uint8_t *from)
{
	memcpy(v->bytes[half] + to, from, 8);
}

START_TEST(what_contradicts_itself_is_refused_with_what_is_wrong)
	{
		struct victim v, other, old;
		uint8_t idle[8], one[8];

		victim_begin(&v, 25);
		victim_begin(&other, 0);
		victim_begin(&old, 20000); /* of a later epoch */
		memcpy(one, v.bytes[0] + AT_EPOCH, 8);
		memcpy(idle, v.bytes[1] + AT_EPOCH, 8);

		move(&v, 1, AT_EPOCH, one);
		ck_refused(&v, "both of its memfds are current");
		move(&v, 1, AT_EPOCH, old.bytes[0][AT_EPOCH] ? old.bytes[0] + AT_EPOCH : old.bytes[1] + AT_EPOCH);
		ck_refused(&v, "both of its memfds are current");
		move(&v, 1, AT_EPOCH, idle);
		move(&v, 0, AT_EPOCH, idle);
		ck_refused(&v, "neither of its memfds is current");
		move(&v, 0, AT_EPOCH, one);
		ck_assert(!is_refused(&v));

		v.bytes[0][AT_FORMAT] = LEDGER_FORMAT + 6;
		ck_refused(&v, "its format is 7, and that of this version is 1");
		v.bytes[0][AT_FORMAT] = LEDGER_FORMAT;
		v.bytes[1][AT_IDENTITY]++;
		ck_refused(&v, "its header is damaged");
		v.bytes[1][AT_IDENTITY]--;
		v.bytes[0][v.committed[0] - 1] ^= 1;
		ck_refused(&v, "a record of it is damaged");
		v.bytes[0][v.committed[0] - 1] ^= 1;
		move(&v, 0, AT_COMMITTED, v.bytes[0] + AT_VOID); /* 0 */
		ck_refused(&v, "its header is damaged");
		move(&v, 0, AT_COMMITTED, other.bytes[0] + AT_COMMITTED);
		ck_assert_ptr_nonnull(memcpy(v.bytes[0], other.bytes[0], LEDGER_HALF_HEADER));
		ck_refused(&v, "its two memfds are of different ledgers");
		victim_end(&v);
		victim_end(&other);
		victim_end(&old);
	}
END_TEST

/* --- other files --- */

static int memfd_of(const void *bytes, size_t n, int seals)
{
	int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static size_t copy_of(int fd, uint8_t **bytes)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	*bytes = malloc((size_t)st.st_size);
	ck_assert_int_eq(pread(fd, *bytes, (size_t)st.st_size, 0), st.st_size);
	return (size_t)st.st_size;
}

static void ck_take_refused(int a, int b, const char *sentence)
{
	ck_assert_ptr_null(ledger_take(a, b, why, sizeof(why)));
	ck_assert_str_eq(why, sentence);
	ck_assert_int_eq(fcntl(a, F_GETFD), -1);
	ck_assert_int_eq(fcntl(b, F_GETFD), -1);
}

static int dup_of(const struct victim *v, unsigned half)
{
	return fcntl(ledger_fd(v->l, half), F_DUPFD_CLOEXEC, 3);
}

START_TEST(other_files_are_refused_with_what_is_wrong)
	{
		static uint8_t page[LEDGER_HALF_UNIT];
		struct victim v;
		uint8_t *bytes;
		int fd, pipes[2];

		victim_begin(&v, 25);
		(void)copy_of(ledger_fd(v.l, 1), &bytes);
		ck_take_refused(dup_of(&v, 0), memfd_of(bytes, LEDGER_HALF_UNIT, 0),
				"it is not sealed against being cut");
		ck_take_refused(dup_of(&v, 0), memfd_of(bytes, 0, F_SEAL_SHRINK), "it is too short");
		ck_take_refused(dup_of(&v, 0), memfd_of(bytes, LEDGER_HALF_UNIT - 1, F_SEAL_SHRINK), "it is too short");
		ck_take_refused(memfd_of(page, sizeof(page), F_SEAL_SHRINK), dup_of(&v, 1), "it is no ledger");
		ck_take_refused(memfd_of(bytes, LEDGER_HALF_UNIT, F_SEAL_SHRINK | F_SEAL_WRITE), dup_of(&v, 0),
				"it cannot be mapped");
		memset(page, 0xa5, sizeof(page));
		ck_take_refused(memfd_of(page, sizeof(page), F_SEAL_SHRINK), dup_of(&v, 1), "it is no ledger");
		ck_take_refused(dup_of(&v, 1), dup_of(&v, 1), "its two memfds are one and the same");
		fd = dup_of(&v, 0);
		ck_take_refused(fd, fd, "its two memfds are one and the same");
		ck_take_refused(-1, dup_of(&v, 1), "it is no open file");
		ck_take_refused(dup_of(&v, 1), -1, "it is no open file");
		ck_assert_int_eq(pipe(pipes), 0);
		close(pipes[1]);
		ck_take_refused(dup_of(&v, 0), pipes[0], "it is no memfd");
		ck_take_refused(open("/dev/zero", O_RDWR), dup_of(&v, 0), "it is no memfd");
		ck_assert(!is_refused(&v));
		free(bytes);
		victim_end(&v);
	}
END_TEST

START_TEST(a_copy_is_as_good_and_one_that_is_cut_or_has_holes_is_refused)
	{
		static const uint8_t data[50000];
		struct ledger *l = ledger_new(), *taken;
		uint8_t *current, *idle;
		size_t size;
		int fd;

		for (uint64_t id = 0; id < 10; id++)
			ck_assert(ledger_put(l, 1, id, (struct span){ .p = data, .len = sizeof(data) }));
		size = copy_of(ledger_fd(l, 0), &current);
		ck_assert_uint_gt(size, 500000);
		(void)copy_of(ledger_fd(l, 1), &idle);
		for (size_t cut = 0; cut <= size; cut += cut < size - 600 ? size / 37 : 1) {
			taken = ledger_take(memfd_of(current, size - cut, F_SEAL_SHRINK),
					    memfd_of(idle, LEDGER_HALF_UNIT, F_SEAL_SHRINK), why, sizeof(why));
			ck_assert_msg(!taken || size - cut >= 10 * sizeof(data), "%zu bytes", size - cut);
			ck_assert_msg(taken || cut, "%s", why);
			ledger_free(taken);
		}
		fd = memfd_of(current, size, F_SEAL_SHRINK);
		ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, (off_t)size), 0);
		ck_take_refused(fd, memfd_of(idle, LEDGER_HALF_UNIT, F_SEAL_SHRINK),
				"it is shorter than what it says to hold");
		free(current);
		free(idle);
		ledger_free(l);
	}
END_TEST

RUN_SUITE("ledger_damage", each_flipped_byte_or_bit_of_what_is_committed_is_refused,
	  what_is_not_committed_is_of_no_meaning, what_contradicts_itself_is_refused_with_what_is_wrong,
	  other_files_are_refused_with_what_is_wrong, a_copy_is_as_good_and_one_that_is_cut_or_has_holes_is_refused)
