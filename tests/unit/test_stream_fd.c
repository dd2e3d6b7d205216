/* Messages that bring an fd. */
#include "tests/support/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 64

static unsigned n_writes, n_refusals, n_pipes_before;
static int refuse_with; /* errno of a write with an fd; 0: none is refused */

/* In the place of glibc's. */
ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	n_writes++;
	if (refuse_with && m->msg_controllen) {
		n_refusals++;
		errno = refuse_with;
		return -1;
	}
	return syscall(SYS_sendmsg, fd, m, flags);
}

/* What came, and after how many bytes each fd did. */
struct got {
	struct loop_io io;
	uint8_t *data;
	size_t len, want, at_once;
	int fds[FDS];
	size_t at[FDS];
	unsigned n_fds;
};

static void got_take_fd(struct got *g, struct msghdr *m, size_t before)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);

	ck_assert(!(m->msg_flags & MSG_CTRUNC));
	if (!c)
		return;
	ck_assert_int_eq(c->cmsg_type, SCM_RIGHTS);
	ck_assert_uint_eq(c->cmsg_len, CMSG_LEN(sizeof(int))); /* one a message */
	ck_assert_uint_lt(g->n_fds, FDS);
	memcpy(&g->fds[g->n_fds], CMSG_DATA(c), sizeof(int));
	g->at[g->n_fds++] = before;
}

/* One read; false when nothing was there. */
static bool got_more(struct got *g, int fd)
{
	char control[CMSG_SPACE(8 * sizeof(int))];
	size_t room = g->want - g->len;
	struct iovec iov = { .iov_base = g->data + g->len, .iov_len = room < g->at_once ? room : g->at_once };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return false;
	got_take_fd(g, &m, g->len);
	g->len += (size_t)n;
	return true;
}

static void got_on_readable(struct loop_io *io, int events)
{
	struct got *g = container_of(io, struct got, io);

	(void)events;
	(void)got_more(g, io->fd);
	if (g->len < g->want)
		return;
	loop_io_watch(io, 0);
	loop_stop(peer_loop);
}

static void got_begin(struct got *g, size_t want, size_t at_once)
{
	*g = (struct got){ .data = malloc(want), .want = want, .at_once = at_once };
}

/* Until nothing is left. */
static void got_all(struct got *g, int fd, size_t want)
{
	got_begin(g, want, SIZE_MAX);
	while (g->len < g->want && got_more(g, fd))
		;
}

static void got_end(struct got *g)
{
	for (unsigned i = 0; i < g->n_fds; i++)
		close(g->fds[i]);
	free(g->data);
}

/* An fd that can be told from others, by what is read from it. */
static int marked_fd(char mark)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(write(fds[1], &mark, 1), 1);
	close(fds[1]);
	return fds[0];
}

static char mark_of(int fd)
{
	char mark = 0;

	ck_assert_int_eq(read(fd, &mark, 1), 1);
	return mark;
}

/* Marked fds that are open. */
static unsigned count_marked(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++) {
		struct stat st;

		n += fd > 2 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
	}
	return n - n_pipes_before;
}

static void setup(void)
{
	n_writes = n_refusals = 0;
	refuse_with = 0;
	n_pipes_before = 0;
	n_pipes_before = count_marked();
	peer_setup();
}

static void send_fd(struct stream *s, const char *text, char mark)
{
	stream_send_fd(s, span_str(text), marked_fd(mark), SPAN_LIT("refused"));
}

START_TEST(an_fd_comes_with_its_message_between_those_before_and_after)
	{
		struct peer p;
		struct got g;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, "before", 6);
		send_fd(&p.stream, "first", 'a');
		peer_send_text(&p.stream, "between", 7);
		send_fd(&p.stream, "second", 'b');
		send_fd(&p.stream, "third", 'c');
		peer_send_text(&p.stream, "after", 5);
		ck_assert_uint_eq(p.stream.out.bytes, 34);
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(n_writes, 4); /* a new one for each fd, and no more */
		got_all(&g, p.fd, 34);
		ck_assert_uint_eq(g.len, 34);
		ck_assert_mem_eq(g.data, "beforefirstbetweensecondthirdafter", 34);
		ck_assert_uint_eq(g.n_fds, 3);
		for (unsigned i = 0; i < 3; i++)
			ck_assert_int_eq(mark_of(g.fds[i]), 'a' + (int)i);
		/* the kernel may let one come with plain bytes before it, never with bytes after its message */
		ck_assert(g.at[0] <= 6 && g.at[1] >= 11 && g.at[1] <= 18 && g.at[2] >= 24);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
		ck_assert_uint_eq(p.stream.frames_out, 6);
		got_end(&g);
		peer_close(&p);
	}
END_TEST

START_TEST(both_messages_have_the_framing_of_the_connection)
	{
		for (int refused = 0; refused < 2; refused++) {
			struct peer p;
			struct got g;

			refuse_with = refused ? ETOOMANYREFS : 0;
			peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
			send_fd(&p.stream, "socket", 'a');
			io_run_for(peer_loop, 0);
			got_all(&g, p.fd, 100);
			ck_assert_uint_eq(g.n_fds, !refused);
			ck_assert_uint_eq(g.len, refused ? 11 : 10);
			ck_assert_mem_eq(g.data, refused ? "\0\0\0\7refused" : "\0\0\0\6socket", g.len);
			got_end(&g);
			peer_close(&p);
		}
	}
END_TEST

START_TEST(fault_74_when_the_kernel_refuses_the_fd_the_other_message_goes_in_its_place)
	{
		struct peer p;
		struct got g;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		refuse_with = ETOOMANYREFS;
		peer_send_text(&p.stream, "before", 6);
		send_fd(&p.stream, "first", 'a');
		send_fd(&p.stream, "second", 'b');
		peer_send_text(&p.stream, "after", 5);
		io_run_for(peer_loop, 0);
		got_all(&g, p.fd, 100);
		ck_assert_uint_eq(g.len, 25);
		ck_assert_mem_eq(g.data, "beforerefusedrefusedafter", 25);
		ck_assert_uint_eq(g.n_fds, 0);
		ck_assert_uint_eq(n_refusals, 2);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
		ck_assert_uint_eq(p.ends, 0);
		ck_assert_uint_eq(count_marked(), 0);
		got_end(&g);
		peer_close(&p);
	}
END_TEST

START_TEST(an_fd_is_closed_when_its_stream_ends_before_it_was_sent)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		send_fd(&p.stream, "socket", 'a');
		stream_close(&p.stream);
		ck_assert_uint_eq(count_marked(), 0);
		send_fd(&p.stream, "socket", 'b');
		ck_assert_uint_eq(count_marked(), 0);
		peer_close(&p);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		cleanup_close(&p.fd);
		p.fd = -1;
		send_fd(&p.stream, "socket", 'c'); /* EPIPE */
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert_uint_eq(count_marked(), 0);
		peer_close(&p);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		send_fd(&p.stream, "socket", 'd');
		stream_give_up(&p.stream, STREAM_END_OUTPUT);
		ck_assert_uint_eq(count_marked(), 0);
		io_run(peer_loop);
		peer_close(&p);
	}
END_TEST

START_TEST(an_fd_that_waits_for_a_slow_reader_is_sent_before_the_stream_closes)
	{
		struct peer p;
		struct got g;
		char *mega = calloc(1, 1 << 20);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.stop_at_end = false;
		peer_send_text(&p.stream, mega, 1 << 20);
		send_fd(&p.stream, "socket", 'a');
		stream_close_flushed(&p.stream, 5 * NS_PER_S);
		got_begin(&g, (1 << 20) + 6, 100000);
		loop_io_init(&g.io, peer_loop, p.fd, LOOP_PRIO_NORMAL, got_on_readable);
		loop_io_watch(&g.io, LOOP_READ);
		io_run(peer_loop);
		ck_assert_uint_eq(g.n_fds, 1);
		ck_assert_int_eq(mark_of(g.fds[0]), 'a');
		io_run_for(peer_loop, 0);
		ck_assert(!stream_is_open(&p.stream));
		got_end(&g);
		peer_close(&p);
		free(mega);
	}
END_TEST

START_TEST(a_stream_knows_what_the_peer_has_received_at_least)
	{
		struct peer p;
		struct got g;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		ck_assert_uint_eq(stream_received(&p.stream), 0);
		send_fd(&p.stream, "socket", 'a');
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(stream_received(&p.stream), 0);
		got_all(&g, p.fd, 100);
		ck_assert_uint_eq(stream_received(&p.stream), 6);
		peer_send_text(&p.stream, "more", 4);
		io_run_for(peer_loop, 0);
		ck_assert_uint_le(stream_received(&p.stream), 6);
		got_end(&g);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_20_partial_writes_keep_each_fd_with_its_message)
	{
		const int tiny = 1;
		struct peer p;
		struct got g;
		uint8_t *want = malloc(1 << 20);
		size_t sent = 0, first[FDS], last[FDS];

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		ck_assert_int_eq(setsockopt(p.stream.io.fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny)), 0);
		srand(3);
		for (unsigned i = 0; i < 2 * FDS; i++) {
			struct span text = { .p = want + sent, .len = 1 + (size_t)rand() % 6000 };

			for (size_t k = 0; k < text.len; k++)
				want[sent++] = (uint8_t)rand();
			if (i % 2) {
				first[i / 2] = sent - text.len;
				last[i / 2] = sent - 1;
				stream_send_fd(&p.stream, text, marked_fd((char)(i / 2)), SPAN_LIT("refused"));
			} else {
				peer_send_text(&p.stream, (const char *)text.p, text.len);
			}
		}
		got_begin(&g, sent, 700);
		loop_io_init(&g.io, peer_loop, p.fd, LOOP_PRIO_NORMAL, got_on_readable);
		loop_io_watch(&g.io, LOOP_READ);
		io_run(peer_loop);
		ck_assert(memcmp(g.data, want, sent) == 0);
		ck_assert_uint_eq(g.n_fds, FDS);
		for (unsigned i = 0; i < FDS; i++) {
			ck_assert_int_eq(mark_of(g.fds[i]), (char)i);
			ck_assert(g.at[i] + 700 > first[i] && g.at[i] <= last[i]);
		}
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
		got_end(&g);
		peer_close(&p);
		free(want);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("stream fd", setup, peer_teardown, an_fd_comes_with_its_message_between_those_before_and_after,
			 both_messages_have_the_framing_of_the_connection,
			 fault_74_when_the_kernel_refuses_the_fd_the_other_message_goes_in_its_place,
			 an_fd_is_closed_when_its_stream_ends_before_it_was_sent,
			 an_fd_that_waits_for_a_slow_reader_is_sent_before_the_stream_closes,
			 a_stream_knows_what_the_peer_has_received_at_least,
			 fault_20_partial_writes_keep_each_fd_with_its_message);
}
