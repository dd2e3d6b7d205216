#include "tests/fuzz/puppet.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <utlist.h>

#include "daemon/io/look.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/fuzz/must.h"

#define MESSAGE_MAX 1024

static struct puppet *puppet_of(const struct process *p)
{
	return p->page ? (struct puppet *)((char *)(uintptr_t)p->page - offsetof(struct puppet, page)) : NULL;
}

/* --- the daemon's side: daemon/io/process.h --- */

static void on_dump_over(struct loop_timer *t)
{
	struct process *p = container_of(t, struct process, dump_timer);

	p->dumping = false;
	p->ops->dumped(p, (struct span){ 0 }, false);
}

void process_init(struct process *p, struct loop *l, const struct process_ops *ops, size_t tail_bytes,
		  unsigned tail_lines)
{
	*p = (struct process){ .ops = ops, .loop = l, .page_fd = -1, .tail = tail_new(tail_bytes, tail_lines) };
	loop_timer_init(&p->dump_timer, l, on_dump_over);
}

void process_deinit(struct process *p)
{
	MUST(!p->pid, "a running process is given up");
	loop_timer_stop(&p->dump_timer);
	p->tail = tail_free(p->tail);
}

int process_start(struct process *p, struct spawner *sp, const struct process_spec *spec, int *calls_fd)
{
	MUST(!p->pid, "a running process is started");
	p->spawned_ns = loop_now(p->loop);
	return sp->start(sp, p, spec, calls_fd);
}

/* Pools of the fuzzers have no templates. */
int process_fork(struct process *p, struct process *parent, const void *message, size_t len, int *calls_fd)
{
	(void)p, (void)parent, (void)message, (void)len, (void)calls_fd;
	return -EPIPE;
}

int process_born(struct process *p, pid_t pid)
{
	(void)p, (void)pid;
	return -ECHILD;
}

/* The fuzzers' daemon has neither a crash nor an upgrade behind it. */
void process_fds(const struct process *p, int fds[PROCESS_FDS])
{
	(void)p;
	for (unsigned i = 0; i < PROCESS_FDS; i++)
		fds[i] = -1;
}

int process_adopt(struct process *p, pid_t pid, int fds[PROCESS_FDS], int old_calls[PROCESS_OLD_CALLS], int *calls_fd)
{
	(void)p, (void)pid, (void)fds, (void)old_calls, (void)calls_fd;
	return -ENOSYS;
}

int process_go_on(struct process *p, pid_t pid, int fds[PROCESS_FDS])
{
	(void)p, (void)pid, (void)fds;
	return -ENOSYS;
}

int process_send_calls(struct process *p, const void *message, size_t len)
{
	(void)p, (void)message, (void)len;
	return -EPIPE;
}

void process_drop_old_calls(struct process *p)
{
	(void)p;
}

void process_unborn(struct process *p)
{
	(void)p;
}

bool process_is_running(const struct process *p)
{
	return p->pid != 0;
}

int process_control_send(struct process *p, const void *message, size_t len)
{
	struct span s = { .p = message, .len = len };
	struct envelope e;
	struct complaint c;

	if (!p->pid)
		return -EPIPE;
	MUST(cursor_check(s) == CURSOR_DONE && envelope_parse(s, &e, &c), "a control message that is malformed");
	if (span_equals(e.method, "stop"))
		puppet_of(p)->asked = true;
	return 0;
}

int process_control_send_fd(struct process *p, const void *message, size_t len, int fd)
{
	MUST(fd >= 0, "a control message without its fd");
	return process_control_send(p, message, len); /* nobody takes it: the peer finds its end closed */
}

int process_signal(struct process *p, int signo)
{
	if (!p->pid)
		return -ESRCH;
	puppet_of(p)->killed |= signo == SIGKILL;
	puppet_of(p)->terminated |= signo == SIGTERM;
	return 0;
}

int process_signal_group(struct process *p, int signo)
{
	return process_signal(p, signo);
}

int process_set_wanted(struct process *p, uint64_t call, uint64_t reason)
{
	if (!p->pid)
		return -ESRCH;
	p->page[0] = call;
	p->page[1] = reason;
	return 0;
}

int process_interrupt(struct process *p, uint64_t call, uint64_t reason)
{
	return process_set_wanted(p, call, reason);
}

void process_dump(struct process *p, uint64_t timeout)
{
	if (p->dumping)
		return;
	p->dumping = true;
	loop_timer_set(&p->dump_timer, loop_now(p->loop) + timeout);
}

void process_drain_dump(struct process *p)
{
	(void)p; /* it comes when its time is over */
}

/* Nothing of the machine that the fuzzer runs on may show. */
void process_look(const struct process *p, struct process_look *look)
{
	(void)p;
	*look = (struct process_look){ .state = 'S' };
}

uint64_t process_rss(const struct process *p)
{
	(void)p;
	return 0;
}

void process_drain_output(struct process *p)
{
	(void)p; /* what a puppet prints is taken at once */
}

/* --- the stage --- */

static int puppets_start(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd)
{
	struct puppets *s = container_of(sp, struct puppets, spawner);
	struct puppet *pp;
	int fds[2];

	(void)spec;
	if (s->spawn_error)
		return s->spawn_error;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0, "no socketpair");
	pp = MEM_NEW(struct puppet);
	pp->stage = s;
	pp->process = p;
	pp->calls_fd = fds[1];
	pp->honest = true;
	frame_reader_init(&pp->reader, FRAME_PREFIXED, FRAME_MAX_LIMIT);
	DL_APPEND(s->list, pp);
	p->pid = ++s->last_pid;
	p->exec_ns = loop_now(p->loop);
	p->page = pp->page;
	*calls_fd = fds[0];
	return 0;
}

void puppets_init(struct puppets *s)
{
	*s = (struct puppets){ .spawner = { .name = "puppets", .start = puppets_start }, .last_pid = 1000 };
}

struct puppet *puppets_at(const struct puppets *s, unsigned n)
{
	struct puppet *p = s->list;

	for (n %= 8; p && n > 0; n--)
		p = p->next ? p->next : s->list;
	return p;
}

struct puppet *puppets_find(const struct puppets *s, pid_t pid)
{
	struct puppet *p = s->list;

	while (p && p->process->pid != pid)
		p = p->next;
	return p;
}

void puppets_reap(struct puppets *s)
{
	struct puppet *p, *next;

	DL_FOREACH_SAFE(s->list, p, next) {
		if (p->killed)
			puppet_exit(p, -1, SIGKILL);
	}
}

/* --- the worker's side --- */

static void puppet_take_call(struct puppet *p, struct span body)
{
	struct envelope e;
	struct complaint c;

	MUST(envelope_parse(body, &e, &c), "the daemon sends a worker what is no message: %s", c.message);
	MUST(e.type == ENVELOPE_REQUEST && (span_equals(e.method, "execute") || span_equals(e.method, "direct")),
	     "the daemon sends what is no call");
	MUST(!p->honest || !p->call, "call %llu comes while %llu runs", (unsigned long long)e.id,
	     (unsigned long long)p->call);
	p->call = e.id;
	p->n_calls++;
}

static void puppet_parse(struct puppet *p)
{
	struct frame f;

	while (p->in_len) {
		enum frame_status status = frame_next(&p->reader, p->in, p->in_len, &f);
		char text[FRAME_TEXT];

		if (status == FRAME_MORE)
			return;
		MUST(status == FRAME_READY, "the daemon sends a worker what is no frame: %s",
		     frame_status_text(&p->reader, status, text));
		puppet_take_call(p, f.body);
		p->in_len -= f.taken;
		memmove(p->in, p->in + f.taken, p->in_len);
	}
}

void puppet_read(struct puppet *p)
{
	uint8_t bytes[4096];
	ssize_t n;

	while (p->calls_fd >= 0 && (n = recv(p->calls_fd, bytes, sizeof(bytes), 0)) > 0) {
		p->in = mem_resize(p->in, p->in_len + (size_t)n, 1);
		memcpy(p->in + p->in_len, bytes, (size_t)n);
		p->in_len += (size_t)n;
		puppet_parse(p);
	}
}

void puppet_write(struct puppet *p, struct span bytes)
{
	p->honest = false;
	if (p->calls_fd >= 0 && bytes.len)
		(void)send(p->calls_fd, bytes.p, bytes.len,
			   MSG_NOSIGNAL); /* a full socket cuts it: bytes like others */
}

static void puppet_write_honestly(struct puppet *p, struct span body)
{
	bool was = p->honest;
	uint8_t prefix[FRAME_PREFIX];

	frame_put_prefix(prefix, (uint32_t)body.len);
	puppet_write(p, (struct span){ .p = prefix, .len = sizeof(prefix) });
	puppet_write(p, body);
	p->honest = was;
}

void puppet_write_frame(struct puppet *p, struct span body)
{
	puppet_write_honestly(p, body);
	p->honest = false;
}

static struct span buffer_span(const msgpack_sbuffer *buf)
{
	return (struct span){ .p = (const uint8_t *)buf->data, .len = buf->size };
}

void puppet_reply(struct puppet *p)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	puppet_read(p);
	if (!p->call)
		return;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 5);
	msgpack_pack_int(&pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(&pk, p->call);
	msgpack_pack_nil(&pk);
	msgpack_pack_uint64(&pk, p->call);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "run_us", 7);
	p->call = 0;
	puppet_write_honestly(p, buffer_span(&buf));
	msgpack_sbuffer_destroy(&buf);
}

void puppet_reply_error(struct puppet *p, const char *code, struct span message)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	puppet_read(p);
	if (!p->call)
		return;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(&pk, p->call);
	msgpack_pack_map(&pk, 2);
	pack_kv_text(&pk, "code", code);
	pack_text(&pk, "message");
	pack_text_n(&pk, (const char *)message.p, message.len);
	msgpack_pack_nil(&pk);
	p->call = 0;
	puppet_write_honestly(p, buffer_span(&buf));
	msgpack_sbuffer_destroy(&buf);
}

void puppet_control(struct puppet *p, struct span message)
{
	p->process->ops->control(p->process, message);
}

void puppet_tell(struct puppet *p, const char *name, struct span map)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, ENVELOPE_NOTIFICATION);
	pack_text(&pk, name);
	msgpack_pack_array(&pk, map.len ? 1 : 0);
	pack_raw(&pk, map);
	puppet_control(p, buffer_span(&buf));
	msgpack_sbuffer_destroy(&buf);
}

void puppet_get_ready(struct puppet *p)
{
	static const char hello[] = "\x81\xa8protocol\x01";
	static const char ready[] = "\x81\xa7targets\x91\xa1x";

	puppet_tell(p, "hello", SPAN_LIT(hello));
	puppet_tell(p, "ready", SPAN_LIT(ready));
}

void puppet_print(struct puppet *p, bool is_stderr, struct span text)
{
	tail_add(p->process->tail, is_stderr ? TAIL_STDERR : TAIL_STDOUT, text.p, text.len, 1);
	p->process->ops->output(p->process);
}

void puppet_show_stack(struct puppet *p, struct span text)
{
	struct process *process = p->process;

	if (!process->dumping)
		return;
	process->dumping = false;
	loop_timer_stop(&process->dump_timer);
	process->ops->dumped(process, text, true);
}

void puppet_close_calls(struct puppet *p)
{
	p->honest = false;
	cleanup_close(&p->calls_fd);
	p->calls_fd = -1;
}

void puppet_exit(struct puppet *p, int exit_code, int signal)
{
	const struct process_exit how = { .known = true, .exit_code = exit_code, .signal = signal };
	struct process *process = p->process;

	DL_DELETE(p->stage->list, p);
	puppet_close_calls(p);
	frame_reader_deinit(&p->reader);
	free(p->in);
	process->dumping = false;
	loop_timer_stop(&process->dump_timer);
	process->page = NULL;
	process->pid = 0;
	free(p);
	tail_finish(process->tail, 1);
	process->ops->exited(process, &how);
}
