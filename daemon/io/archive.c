#include "daemon/io/archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#define COMPLAINTS_EVERY UINT64_C(60000000000) /* ns */
#define TIME_DIGITS 13                         /* of UNIX ms, so that names sort by time until the year 2286 */
#define PARTS_MAX 8

struct archive_record {
	uint64_t bytes;
	struct archive_record *prev, *next;
	char name[];
};

void archive_init(struct archive *a, const char *path, const char *prefix, unsigned max_records, uint64_t max_bytes)
{
	*a = (struct archive){
		.path = mem_strdup(path),
		.prefix = mem_strdup(prefix),
		.max_records = max_records,
		.max_bytes = max_bytes,
		.fd = -1,
	};
}

static void archive_forget(struct archive *a, struct archive_record *r)
{
	DL_DELETE(a->records, r);
	a->n_records--;
	a->bytes -= r->bytes;
	free(r);
}

static void archive_close(struct archive *a)
{
	while (a->records)
		archive_forget(a, a->records);
	cleanup_close(&a->fd);
	a->fd = -1;
}

void archive_deinit(struct archive *a)
{
	archive_close(a);
	free(a->path);
	free(a->prefix);
	*a = (struct archive){ .fd = -1 };
}

/* What failed, once a minute: a full disk fails every time. Returns r. */
static int archive_complain(struct archive *a, const char *what, int r)
{
	struct timespec ts;
	uint64_t now;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	a->n_failures++;
	if (a->complained && now - a->complained < COMPLAINTS_EVERY)
		return r;
	LOG(ERROR, "archive.failed", KV("path", a->path), KV("what", what), KV("reason", strerror(-r)),
	    KV("n", a->n_failures));
	a->complained = now;
	a->n_failures = 0;
	return r;
}

/* PREFIX-1700000000000-17.call */
static bool archive_is_ours(const struct archive *a, const char *name)
{
	size_t prefix = strlen(a->prefix), digits;
	const char *p = name + prefix;

	if (strncmp(name, a->prefix, prefix) != 0 || *p++ != '-')
		return false;
	if (strspn(p, "0123456789") != TIME_DIGITS || p[TIME_DIGITS] != '-')
		return false;
	p += TIME_DIGITS + 1;
	digits = strspn(p, "0123456789");
	return digits && strcmp(p + digits, ARCHIVE_SUFFIX) == 0;
}

static int record_compare(const struct archive_record *a, const struct archive_record *b)
{
	return strcmp(a->name, b->name);
}

static void archive_note(struct archive *a, const char *name, uint64_t bytes)
{
	size_t len = strlen(name) + 1;
	struct archive_record *r = mem_new(sizeof(*r) + len);

	memcpy(r->name, name, len);
	r->bytes = bytes;
	DL_APPEND(a->records, r);
	a->n_records++;
	a->bytes += bytes;
}

/* What is in it from before. */
static int archive_scan(struct archive *a)
{
	int fd = fcntl(a->fd, F_DUPFD_CLOEXEC, 3);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (!dir) {
		int r = -errno;

		cleanup_close(&fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		if (archive_is_ours(a, entry->d_name) && fstatat(a->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			archive_note(a, entry->d_name, (uint64_t)st.st_size);
	}
	(void)closedir(dir); /* it was only read */
	/* cppcheck-suppress nullPointer ; it takes the macro's end of a list for its begin */
	DL_SORT(a->records, record_compare);
	return 0;
}

/* Its last component may not be a link, and nobody else may put files into it or take them out. */
static int archive_enter(struct archive *a)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (mkdir(a->path, 0700) < 0 && errno != EEXIST)
		return archive_complain(a, "mkdir", -errno);
	fd = open(a->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return archive_complain(a, "open", -errno);
	if (st.st_uid != geteuid())
		return archive_complain(a, "it belongs to another user", -EPERM);
	if (st.st_mode & 022)
		return archive_complain(a, "others may write to it: chmod go-w", -EPERM);
	a->fd = TAKE_FD(fd);
	return 0;
}

int archive_open(struct archive *a)
{
	int r;

	if (a->fd >= 0)
		return 0;
	r = archive_enter(a);
	if (r < 0)
		return r;
	r = archive_scan(a);
	if (r < 0) {
		archive_close(a);
		return archive_complain(a, "read", r);
	}
	return 0;
}

static int write_all(int fd, const struct span *parts, unsigned n_parts)
{
	struct iovec iov[PARTS_MAX];
	unsigned first = 0;

	for (unsigned i = 0; i < n_parts; i++)
		iov[i] = (struct iovec){ .iov_base = (void *)parts[i].p, .iov_len = parts[i].len };
	while (first < n_parts) {
		ssize_t n = writev(fd, iov + first, (int)(n_parts - first));

		if (n < 0)
			return -errno;
		while (first < n_parts && (size_t)n >= iov[first].iov_len)
			n -= (ssize_t)iov[first++].iov_len;
		if (first < n_parts) {
			iov[first].iov_base = (char *)iov[first].iov_base + n;
			iov[first].iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int archive_write(struct archive *a, const char *name, const struct span *parts, unsigned n_parts)
{
	_cleanup_close_ int fd =
		openat(a->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	int r = fd < 0 ? -errno : write_all(fd, parts, n_parts);

	if (fd >= 0 && r < 0)
		(void)unlinkat(a->fd, name,
			       0); /* half a record is of no use; what is left is found at the next start */
	return r;
}

/* The eldest leave until there is room for one more of that size. One that is gone already is as good. */
static void archive_make_room(struct archive *a, uint64_t bytes)
{
	while (a->records && (a->n_records >= a->max_records || a->bytes + bytes > a->max_bytes)) {
		if (unlinkat(a->fd, a->records->name, 0) < 0 && errno != ENOENT)
			archive_complain(a, "delete", -errno);
		archive_forget(a, a->records);
	}
}

int archive_keep(struct archive *a, uint64_t wall_ms, uint64_t number, const struct span *parts, unsigned n_parts)
{
	_cleanup_free_ char *name = mem_printf("%s-%0*llu-%llu" ARCHIVE_SUFFIX, a->prefix, TIME_DIGITS,
					       (unsigned long long)wall_ms, (unsigned long long)number);
	uint64_t bytes = 0;
	int r;

	for (unsigned i = 0; i < n_parts; i++)
		bytes += parts[i].len;
	if (n_parts > PARTS_MAX || bytes > a->max_bytes)
		return archive_complain(a, "write", -EFBIG);
	r = archive_open(a);
	if (r < 0)
		return r;
	archive_make_room(a, bytes);
	r = archive_write(a, name, parts, n_parts);
	if (r == -ENOENT) /* the directory was removed: the next record makes it anew */
		archive_close(a);
	if (r < 0)
		return archive_complain(a, "write", r);
	archive_note(a, name, bytes);
	return 0;
}
