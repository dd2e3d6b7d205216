#include "daemon/front/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/handover.h"
#include "proto/pack.h"

#define BACKLOG 4096
#define PAUSE (100 * NS_PER_MS) /* without fds: at most 10 tries a second */
#define ACCEPTS_PER_TURN 64
#define PATIENCE NS_PER_S /* of those who wait, before the fds that are kept for admins are used */
#define SOCKET_BUFFER (1024 * 1024)

enum { LISTENER_NOTHING = 1 };

static int listener_accept(struct listener *l, int *fdp)
{
	_cleanup_close_ int fd = accept4(l->io.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		int r = -errno;

		if (r == -EAGAIN || r == -EINTR || r == -ECONNABORTED)
			return LISTENER_NOTHING;
		return r; /* -EMFILE: the caller pauses accepting, it does not exit */
	}
	*fdp = TAKE_FD(fd);
	return 0;
}

static void listener_refill(struct listener *l)
{
	while (l->n_spares < LISTENER_SPARES) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return; /* later: it is tried again and again */
		l->spares[l->n_spares++] = fd;
	}
}

static void listener_drop_spare(struct listener *l)
{
	(void)close(l->spares[--l->n_spares]); /* /dev/null */
}

static bool peer_of(int fd, struct listener_peer *peer)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	const int room = SOCKET_BUFFER;
	socklen_t len = sizeof(cred);

	/* a wish: large replies need fewer wake-ups, and memory only while they wait */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		LOG(WARN, "client.no_credentials", KV("errno", errno));
		return false; /* nobody knows who it is */
	}
	*peer = (struct listener_peer){ .uid = cred.uid, .gid = cred.gid, .pid = cred.pid };
	return true;
}

static void listener_hand_over(struct listener *l, int fd)
{
	struct listener_peer peer;

	if (peer_of(fd, &peer))
		l->ops->accepted(l, fd, &peer);
	else
		(void)close(fd); /* a socket without output */
}

/* Not in the same turn again: the loop must have seen that the watch was off. */
static void listener_pause(struct listener *l)
{
	l->paused_times++;
	loop_io_watch(&l->io, 0);
	loop_timer_set(&l->pause, loop_now(l->loop) + PAUSE);
}

/* One connection, with two of the fds that are kept; false: nobody waits. */
static bool listener_use_spare(struct listener *l, unsigned *turned_away)
{
	_cleanup_close_ int fd = -1;
	struct listener_peer peer;

	listener_drop_spare(l);
	listener_drop_spare(l);
	if (listener_accept(l, &fd) != 0)
		return false;
	if (peer_of(fd, &peer) && l->ops->accepted_spare(l, fd, &peer))
		(void)TAKE_FD(fd); /* it has been taken */
	else
		++*turned_away;
	return true;
}

/* Lets admins in, and turns away who waits before them. */
static void listener_use_spares(struct listener *l)
{
	unsigned turned_away = 0;

	for (unsigned i = 0; i < ACCEPTS_PER_TURN && l->n_spares > 1; i++) {
		bool more = listener_use_spare(l, &turned_away);

		listener_refill(l);
		if (!more)
			break;
	}
	if (turned_away)
		LOG(WARN, "listener.turned_away", KV("clients", turned_away), KV("reason", "no fds"));
}

static void listener_note_short(struct listener *l, int error)
{
	uint64_t now = loop_now(l->loop);

	LOG(WARN, "listener.paused", KV("errno", error), KV("ms", PAUSE / NS_PER_MS));
	if (!l->short_since)
		l->short_since = now;
	else if (error == EMFILE && now - l->short_since >= PATIENCE)
		listener_use_spares(l);
	listener_pause(l);
}

static void listener_accept_some(struct listener *l)
{
	listener_refill(l);
	for (unsigned i = 0; i < ACCEPTS_PER_TURN && l->io.fd >= 0; i++) {
		int fd = -1;
		int r = listener_accept(l, &fd);

		if (r < 0) {
			listener_note_short(l, -r);
			return;
		}
		if (r == LISTENER_NOTHING)
			return;
		l->short_since = 0;
		listener_hand_over(l, fd);
	}
}

static void listener_on_ready(struct loop_io *io, int events)
{
	struct listener *l = container_of(io, struct listener, io);

	if (!(events & LOOP_BROKEN)) {
		listener_accept_some(l);
		return;
	}
	LOG(ERROR, "listener.deaf", KV("fd", io->fd), KV("ms", PAUSE / NS_PER_MS));
	listener_pause(l);
}

/* Whoever waits is served also when the kernel goes on refusing to watch the socket. */
static void listener_on_pause_over(struct loop_timer *t)
{
	struct listener *l = container_of(t, struct listener, pause);

	loop_io_watch(&l->io, LOOP_READ);
	listener_accept_some(l);
}

static void listener_watch(struct listener *l, struct loop *loop, int fd, const struct listener_ops *ops)
{
	l->loop = loop;
	l->ops = ops;
	loop_io_init(&l->io, loop, fd, LOOP_PRIO_NORMAL, listener_on_ready);
	loop_timer_init(&l->pause, loop, listener_on_pause_over);
	loop_io_watch(&l->io, LOOP_READ);
	listener_refill(l);
}

static bool fail(char why[512], const char *what, const char *path, int error)
{
	(void)snprintf(why, 512, "%s %s: %s", what, path, strerror(error));
	return false;
}

/* The directory of the path; an ordinary user's $XDG_RUNTIME_DIR/pypoold is made on first use. */
static bool make_directory(const char *path, char why[512])
{
	_cleanup_free_ char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');

	if (!slash || slash == dir)
		return true;
	*slash = '\0';
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return fail(why, "cannot make the socket's directory", dir, errno);
	return true;
}

static bool take_lock(const char *path, int *fdp, char why[512])
{
	_cleanup_free_ char *name = mem_printf("%s.lock", path);
	_cleanup_close_ int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fail(why, "cannot open the lock file", name, errno);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return fail(why, "cannot lock", name, errno);
		(void)snprintf(why, 512, "another pypoold is listening on %s (it holds %s)", path, name);
		return false;
	}
	*fdp = TAKE_FD(fd);
	return true;
}

static bool socket_answers(const struct sockaddr_un *sa)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN);
}

/* A socket that a dead daemon of ours has left is removed; anything else at the path is somebody's and stays. */
static bool remove_stale(const struct sockaddr_un *sa, char why[512])
{
	struct stat st;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? true : fail(why, "cannot look at", sa->sun_path, errno);
	if (!S_ISSOCK(st.st_mode)) {
		(void)snprintf(why, 512, "%s exists and is no socket: remove it, or choose another path", sa->sun_path);
		return false;
	}
	if (st.st_uid != geteuid()) {
		(void)snprintf(why, 512, "%s is a socket of another user (uid %u)", sa->sun_path, st.st_uid);
		return false;
	}
	if (socket_answers(sa)) {
		(void)snprintf(why, 512, "another program is listening on %s", sa->sun_path);
		return false;
	}
	if (unlink(sa->sun_path) < 0)
		return fail(why, "cannot remove the stale socket", sa->sun_path, errno);
	return true;
}

/* Nobody gets in before mode and group are set. */
static bool bind_socket(int fd, const struct sockaddr_un *sa, const struct listener_spec *spec, char why[512])
{
	mode_t old = umask(0777);
	int r = bind(fd, (const struct sockaddr *)sa, sizeof(*sa));
	int error = errno;

	(void)umask(old); /* cannot fail */
	if (r < 0)
		return fail(why, "cannot bind", sa->sun_path, error);
	if (spec->group != (gid_t)-1 && chown(sa->sun_path, (uid_t)-1, spec->group) < 0)
		return fail(why, "cannot set the group of", sa->sun_path, errno);
	if (chmod(sa->sun_path, spec->mode) < 0)
		return fail(why, "cannot set the mode of", sa->sun_path, errno);
	if (listen(fd, BACKLOG) < 0)
		return fail(why, "cannot listen on", sa->sun_path, errno);
	return true;
}

bool listener_open(struct listener *l, struct loop *loop, const struct listener_spec *spec,
		   const struct listener_ops *ops, char why[512])
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int lock = -1, fd = -1;
	struct stat st;

	*l = (struct listener){ .lock_fd = -1 };
	if (strlen(spec->path) >= sizeof(sa.sun_path)) {
		(void)snprintf(why, 512, "the socket path %s is over %zu bytes long", spec->path,
			       sizeof(sa.sun_path) - 1);
		return false;
	}
	memcpy(sa.sun_path, spec->path, strlen(spec->path) + 1);
	if (!make_directory(spec->path, why) || !take_lock(spec->path, &lock, why) || !remove_stale(&sa, why))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(why, "cannot make a socket for", spec->path, errno);
	if (!bind_socket(fd, &sa, spec, why))
		return false;
	if (stat(spec->path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	l->path = mem_strdup(spec->path);
	l->lock_fd = TAKE_FD(lock);
	listener_watch(l, loop, TAKE_FD(fd), ops);
	return true;
}

void listener_adopt(struct listener *l, struct loop *loop, int fd, const struct listener_ops *ops)
{
	*l = (struct listener){ .lock_fd = -1 };
	listener_watch(l, loop, fd, ops);
}

void listener_pack(const struct listener *l, msgpack_packer *pk)
{
	handover_pack_fd(pk, l->loop ? l->io.fd : -1);
	handover_pack_fd(pk, l->loop ? l->lock_fd : -1);
	msgpack_pack_uint64(pk, l->dev);
	msgpack_pack_uint64(pk, l->ino);
	pack_text(pk, l->path ? l->path : "");
}

void listener_take_over(struct listener *l, struct loop *loop, struct unpacker *u, const struct listener_ops *ops)
{
	int fd = unpack_fd(u), lock = unpack_fd(u);
	struct span path;

	*l = (struct listener){ .lock_fd = lock };
	l->dev = unpack_uint(u);
	l->ino = unpack_uint(u);
	path = unpack_text(u);
	if (path.len)
		l->path = mem_strndup(path.p, path.len);
	if (fd >= 0)
		listener_watch(l, loop, fd, ops);
}

void listener_close(struct listener *l)
{
	struct stat st;

	if (!l->loop)
		return;
	loop_timer_stop(&l->pause);
	if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		(void)unlink(l->path); /* a leftover is stale and removed by the next start */
	loop_io_close(&l->io);
	while (l->n_spares)
		listener_drop_spare(l);
	cleanup_close(&l->lock_fd);
	free(l->path);
	*l = (struct listener){ .lock_fd = -1 };
}
