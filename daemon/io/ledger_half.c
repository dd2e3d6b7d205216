#include "daemon/io/ledger_half.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/ledger.h"

#define MAGIC "pyledger"
#define REMOVES UINT32_MAX /* in the place of a length */

struct header {
	char magic[8];   /* this and the format are in the same place in all versions */
	uint32_t format; /* LEDGER_FORMAT */
	uint32_t which;
	uint64_t identity;
	uint64_t check;                      /* of what is above */
	uint64_t why_void, epoch, committed; /* guarded words */
};

/* In native byte order: a ledger never leaves its machine. */
struct record {
	uint64_t check; /* of all that follows, to the end of the padding */
	uint64_t id;
	uint32_t kind;
	uint32_t length; /* of the bytes that follow, which zeros fill up to a multiple of 8; or REMOVES */
};

_Static_assert(sizeof(struct header) <= LEDGER_HALF_HEADER, "the header is one page");
_Static_assert(sizeof(struct record) % 8 == 0 && LEDGER_HALF_HEADER % 8 == 0, "places are counted in eights");

/* 32 bits and a mixture of them, which is another one for each value: a flip in either half is seen, with certainty. */
static uint64_t guarded(uint32_t value)
{
	return value | (uint64_t)((value ^ UINT32_C(0x6c656467)) * UINT32_C(0x9e3779b1)) << 32;
}

static bool word_read(const uint64_t *word, uint32_t *value)
{
	uint64_t v = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	*value = (uint32_t)v;
	return v == guarded(*value);
}

/* After all stores before it, and before all that follow: whoever dies between two instructions leaves what was stored before
 * them and nothing of what comes later, so it is the compiler that must keep the order, in both directions. */
static void word_store(uint64_t *word, uint32_t value)
{
	__atomic_store_n(word, guarded(value), __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static struct header *half_header(const struct ledger_half *h)
{
	return (struct header *)h->map;
}

static uint64_t header_check(const struct header *head)
{
	return XXH3_64bits(head, offsetof(struct header, check));
}

static size_t rounded(size_t bytes)
{
	return (bytes + LEDGER_HALF_UNIT - 1) / LEDGER_HALF_UNIT * LEDGER_HALF_UNIT;
}

/* More than is asked for when it has to grow: page tables are moved then, one by one. There is nothing behind the end of the file,
 * and nothing is touched there. */
static int half_map(struct ledger_half *h, size_t bytes)
{
	void *map;

	if (h->map && bytes < 2 * h->mapped)
		bytes = 2 * h->mapped;
	if (h->map)
		map = mremap(h->map, h->mapped, bytes, MREMAP_MAYMOVE);
	else
		map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	h->map = map;
	h->mapped = bytes;
	return 0;
}

/* A signal that interrupts fallocate() makes it give back all that it had. */
static int half_reserve(struct ledger_half *h, size_t bytes)
{
	int r;

	do {
		r = fallocate(h->fd, 0, (off_t)h->reserved, (off_t)(bytes - h->reserved)) < 0 ? -errno : 0;
	} while (r == -EINTR);
	if (r == 0 && bytes > h->mapped)
		r = half_map(h, bytes);
	if (r == 0)
		h->reserved = bytes;
	return r;
}

static int half_make(struct ledger_half *h, uint32_t which, uint64_t identity)
{
	struct header *head;
	int r;

	h->fd = memfd_create("pypoold-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (h->fd < 0)
		return -errno;
	r = half_reserve(h, LEDGER_HALF_UNIT);
	if (r < 0)
		return r;
	if (fcntl(h->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	head = half_header(h);
	head->format = LEDGER_FORMAT;
	head->which = which;
	head->identity = identity;
	memcpy(head->magic, MAGIC, sizeof(head->magic));
	head->check = header_check(head);
	word_store(&head->why_void, LEDGER_HOLDS);
	word_store(&head->epoch, 0);
	h->used = LEDGER_HALF_HEADER;
	ledger_half_commit(h);
	return 0;
}

int ledger_half_open(struct ledger_half *h, uint32_t which, uint64_t identity)
{
	int r;

	*h = (struct ledger_half){ .fd = -1 };
	r = half_make(h, which, identity);
	if (r < 0)
		ledger_half_close(h);
	return r;
}

void ledger_half_close(struct ledger_half *h)
{
	if (h->map)
		(void)munmap(h->map, h->mapped); /* a mapping of our own */
	cleanup_close(&h->fd);
	*h = (struct ledger_half){ .fd = -1 };
}

static const char *half_map_first(struct ledger_half *h)
{
	int seals = fcntl(h->fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0)
		return errno == EBADF ? "it is no open file" : "it is no memfd";
	if (!(seals & F_SEAL_SHRINK))
		return "it is not sealed against being cut";
	if (fstat(h->fd, &st) < 0 || st.st_size < (off_t)LEDGER_HALF_UNIT)
		return "it is too short";
	if (fcntl(h->fd, F_SETFD, FD_CLOEXEC) < 0 || half_reserve(h, LEDGER_HALF_UNIT) < 0)
		return "it cannot be mapped";
	return NULL;
}

static const char *header_read(const struct header *head, struct ledger_half_state *state, uint32_t *found)
{
	uint32_t eights;

	if (memcmp(head->magic, MAGIC, sizeof(head->magic)) != 0)
		return "it is no ledger";
	if (head->format != LEDGER_FORMAT) {
		*found = head->format;
		return "its format is another one";
	}
	if (head->check != header_check(head) || !word_read(&head->why_void, &state->why_void) ||
	    !word_read(&head->epoch, &state->epoch) || !word_read(&head->committed, &eights) ||
	    state->why_void >= LEDGER_N_VOIDS || head->which > 1 || eights < LEDGER_HALF_HEADER / 8)
		return "its header is damaged";
	state->identity = head->identity;
	state->which = head->which;
	state->committed = (size_t)eights * 8;
	return NULL;
}

const char *ledger_half_take(struct ledger_half *h, int fd, struct ledger_half_state *state, uint32_t *found)
{
	const char *wrong;

	*h = (struct ledger_half){ .fd = fd, .used = LEDGER_HALF_HEADER };
	wrong = half_map_first(h);
	if (!wrong)
		wrong = header_read(half_header(h), state, found);
	if (wrong)
		ledger_half_close(h);
	return wrong;
}

/* Not more is reserved than there was: what is missing is damage, which a page of zeros would only hide. */
const char *ledger_half_take_records(struct ledger_half *h, size_t committed)
{
	size_t bytes = rounded(committed);
	struct stat st;

	if (fstat(h->fd, &st) < 0 || (size_t)st.st_size < bytes || (size_t)st.st_blocks * 512 < committed)
		return "it is shorter than what it says to hold";
	if (bytes > h->reserved && half_reserve(h, bytes) < 0)
		return "it cannot be mapped";
	h->used = committed;
	return NULL;
}

int ledger_half_reserve(struct ledger_half *h, size_t bytes)
{
	if (bytes <= h->reserved)
		return 0;
	return bytes > LEDGER_HALF_MOST - LEDGER_HALF_UNIT ? -EFBIG : half_reserve(h, rounded(bytes));
}

/* To the end, wherever that is. What cannot be given back is reserved once more later. */
void ledger_half_release(struct ledger_half *h, size_t keep)
{
	h->reserved = rounded(keep);
	(void)fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)h->reserved, (off_t)LEDGER_HALF_MOST);
}

size_t ledger_half_allocated(const struct ledger_half *h)
{
	struct stat st;

	return fstat(h->fd, &st) < 0 ? 0 : (size_t)st.st_blocks * 512;
}

size_t ledger_record_size(size_t bytes)
{
	return sizeof(struct record) + (bytes + 7) / 8 * 8;
}

struct span ledger_half_bytes(const struct ledger_half *h, size_t at, size_t len)
{
	return (struct span){ .p = h->map + at + sizeof(struct record), .len = len };
}

bool ledger_half_read(const struct ledger_half *h, size_t at, struct ledger_record *r)
{
	const struct record *rec = (const struct record *)(h->map + at);
	size_t left = h->used - at, len;

	if (left < sizeof(*rec))
		return false;
	len = rec->length == REMOVES ? 0 : rec->length;
	*r = (struct ledger_record){
		.kind = rec->kind,
		.id = rec->id,
		.removes = rec->length == REMOVES,
		.bytes = ledger_half_bytes(h, at, len),
		.size = ledger_record_size(len),
	};
	return r->size <= left && rec->check == XXH3_64bits(&rec->id, r->size - sizeof(rec->check));
}

static size_t half_append(struct ledger_half *h, const struct record *head, struct span bytes)
{
	size_t at = h->used, size = ledger_record_size(bytes.len);
	struct record *rec = (struct record *)(h->map + at);
	uint8_t *body = (uint8_t *)(rec + 1);

	*rec = *head;
	if (bytes.len)
		memcpy(body, bytes.p, bytes.len);
	memset(body + bytes.len, 0, size - sizeof(*rec) - bytes.len);
	rec->check = XXH3_64bits(&rec->id, size - sizeof(rec->check));
	h->used = at + size;
	return at;
}

size_t ledger_half_append(struct ledger_half *h, uint32_t kind, uint64_t id, struct span bytes)
{
	return half_append(h, &(struct record){ .kind = kind, .id = id, .length = (uint32_t)bytes.len }, bytes);
}

size_t ledger_half_append_removal(struct ledger_half *h, uint32_t kind, uint64_t id)
{
	return half_append(h, &(struct record){ .kind = kind, .id = id, .length = REMOVES }, (struct span){ 0 });
}

size_t ledger_half_copy(struct ledger_half *h, const struct ledger_half *from, size_t at, size_t size)
{
	size_t to = h->used;

	memcpy(h->map + to, from->map + at, size);
	h->used = to + size;
	return to;
}

void ledger_half_commit(struct ledger_half *h)
{
	word_store(&half_header(h)->committed, (uint32_t)(h->used / 8));
}

void ledger_half_set_epoch(struct ledger_half *h, uint32_t epoch)
{
	word_store(&half_header(h)->epoch, epoch);
}

void ledger_half_set_void(struct ledger_half *h, enum ledger_void why)
{
	word_store(&half_header(h)->why_void, why);
	ledger_half_release(h, LEDGER_HALF_UNIT);
	explicit_bzero(h->map + LEDGER_HALF_HEADER, h->reserved - LEDGER_HALF_HEADER);
	h->used = LEDGER_HALF_HEADER;
}
