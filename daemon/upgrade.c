#include "daemon/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/daemon.h"
#include "daemon/front/handover.h"
#include "daemon/front/upgrade.h"
#include "daemon/io/mark.h"
#include "daemon/renewal.h"
#include "proto/pack.h"

#define TRIAL_TIME_S 10
#define LOOK_EVERY (5 * NS_PER_MS)
#define FAILURE_TEXT 400
#define TRIAL_BYTES 4096 /* of what it prints */
#define TRIAL_LINES 20

#define TEXT_OF(x) #x
#define FORMATS(handover, ledger, worker) TEXT_OF(handover) "." TEXT_OF(ledger) "." TEXT_OF(worker)

const char *upgrade_formats(void)
{
	return FORMATS(HANDOVER_FORMAT, LEDGER_FORMAT, HANDSHAKE_PROTOCOL);
}

static void upgrade_fail(struct upgrade *up, enum error_code code, const char *message)
{
	up->state = UPGRADE_NONE;
	up->go = false;
	loop_timer_stop(&up->timer);
	LOG(WARN, "daemon.upgrade.failed", KV("reason", message));
	upgrade_note_failed(&up->daemon->server, code, message);
}

/* --- the trial --- */

static char **trial_argv(char *const *argv, char *option)
{
	size_t n = 0;
	char **with;

	while (argv[n])
		n++;
	with = mem_resize(NULL, n + 2, sizeof(char *));
	memcpy(with, argv, n * sizeof(char *));
	with[n] = option;
	with[n + 1] = NULL;
	return with;
}

static void upgrade_try(struct upgrade *up)
{
	const struct config_request *request = up->daemon->request;
	_cleanup_free_ char *option = mem_printf("--handover=%s", upgrade_formats());
	_cleanup_free_ char **argv = trial_argv(request->argv, option);
	_cleanup_free_ char *why = NULL;
	const struct process_spec spec = {
		.path = request->program,
		.argv = argv,
		.envp = environ,
		.uid = (uid_t)-1,
		.die_with_daemon = true,
	};
	char message[FAILURE_TEXT];
	int calls = -1, r;

	if (!renewal_read(up->daemon, true, &why)) { /* the new program will read it */
		(void)snprintf(message, sizeof(message), "the configuration is not taken, and nothing is changed: %.*s",
			       (int)strcspn(why, "\n"), why); /* the first complaint */
		upgrade_fail(up, ERROR_INIT_FAILED, message);
		return;
	}
	r = request->program ? process_start(&up->trial, spawner_exec(), &spec, &calls) : -ENOENT;
	cleanup_close(&calls);
	if (r == 0) {
		up->state = UPGRADE_TRYING;
		up->late = false;
		loop_timer_set(&up->timer, loop_now(up->daemon->loop) + TRIAL_TIME_S * NS_PER_S);
		return;
	}
	(void)snprintf(message, sizeof(message), "%s cannot be executed: %s; nothing is changed",
		       request->program ? request->program : "the program", strerror(-r));
	upgrade_fail(up, ERROR_INIT_FAILED, message);
}

/* ": " and what it printed, on one line; nothing when that is nothing. */
static void trial_words(const struct process *p, char *out, size_t size)
{
	struct tail_line line;
	size_t used = 0;

	out[0] = '\0';
	for (uint64_t at = 0; used < size && tail_next(p->tail, at, &line); at = line.number + 1)
		used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? "; " : ": ", (int)line.text.len,
					 (const char *)line.text.p);
}

static void upgrade_on_tried(struct process *p, const struct process_exit *how)
{
	struct upgrade *up = container_of(p, struct upgrade, trial);
	char words[FAILURE_TEXT / 2], message[FAILURE_TEXT];

	loop_timer_stop(&up->timer);
	if (how->exit_code != 0 || up->late) {
		trial_words(p, words, sizeof(words));
		if (up->late)
			(void)snprintf(message, sizeof(message),
				       "the new program did not say within %d s whether it can take over; nothing is changed%s",
				       TRIAL_TIME_S, words);
		else if (how->signal)
			(void)snprintf(message, sizeof(message), "the new program was killed by signal %d when it was tried%s",
				       how->signal, words);
		else
			(void)snprintf(message, sizeof(message), "the new program said no (exit status %d) when it was tried%s",
				       how->exit_code, words);
		upgrade_fail(up, ERROR_INIT_FAILED, message);
		return;
	}
	up->state = UPGRADE_WAITING;
	up->deadline = loop_now(up->daemon->loop) + daemon_patience(up->daemon);
	loop_timer_set(&up->timer, loop_now(up->daemon->loop));
}

/* --- waiting --- */

static void upgrade_look(struct upgrade *up)
{
	struct daemon *d = up->daemon;
	const char *why = daemon_obstacle(d);
	uint64_t now = loop_now(d->loop);
	char message[FAILURE_TEXT];

	if (!why) {
		up->go = true;
		loop_stop(d->loop);
	} else if (now < up->deadline && d->phase <= DAEMON_RUNNING) {
		loop_timer_set(&up->timer, now + LOOK_EVERY);
	} else {
		(void)snprintf(message, sizeof(message), "%s; nothing is changed", why);
		upgrade_fail(up, d->phase > DAEMON_RUNNING ? ERROR_DRAINING : ERROR_OVERLOADED, message);
	}
}

static void upgrade_on_timer(struct loop_timer *t)
{
	struct upgrade *up = container_of(t, struct upgrade, timer);

	if (up->state == UPGRADE_TRYING) {
		up->late = true;
		(void)process_signal(&up->trial, SIGKILL); /* it fails when it has just ended */
	} else {
		upgrade_look(up);
	}
}

/* --- execution --- */

static void pack_registry(msgpack_packer *pk, const struct registry *g)
{
	const uint64_t last[] = { g->last_call, g->last_worker, g->last_template, g->last_lease, g->last_caller, g->last_session };

	msgpack_pack_uint64(pk, mark_of_daemon());
	for (size_t i = 0; i < ARRAY_SIZE(last); i++)
		msgpack_pack_uint64(pk, last[i]);
}

static void upgrade_pack(const struct upgrade *up, msgpack_packer *pk)
{
	struct daemon *d = up->daemon;

	pack_text(pk, upgrade_formats());
	pack_text(pk, PYPOOL_VERSION);
	msgpack_pack_uint64(pk, up->stopped);
	pack_registry(pk, &d->registry);
	for (unsigned i = 0; i < 2; i++)
		handover_pack_fd(pk, d->keeping.ledger ? ledger_fd(d->keeping.ledger, i) : -1);
	listener_pack(&d->server.listener, pk);
	listener_pack(&d->server.admin_listener, pk);
	server_pack_clients(&d->server, pk);
	msgpack_pack_array(pk, d->n_pools);
	for (unsigned i = 0; i < d->n_pools; i++)
		handover_pack_pool(d->pools[i], pk);
	server_pack_waiting(&d->server, pk);
}

/* An fd that stays open, or a negative errno. */
static int upgrade_write(const struct upgrade *up)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	_cleanup_close_ int fd = memfd_create("pypoold-handover", 0);
	msgpack_packer pk;
	size_t done = 0;

	if (fd < 0)
		return -errno;
	packed_begin(&buf, &pk);
	upgrade_pack(up, &pk);
	while (done < buf.size) {
		ssize_t n = write(fd, buf.data + done, buf.size - done);

		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return TAKE_FD(fd);
}

/* Those that tell the daemon something would kill the new program before it listens, and wait until then. */
static void block_signals(int how)
{
	const int all[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		sigaddset(&set, all[i]);
	(void)sigprocmask(how, &set, NULL); /* cannot fail with valid arguments */
}

static void upgrade_execute(struct upgrade *up, int fd)
{
	const struct config_request *request = up->daemon->request;
	char number[16];

	(void)snprintf(number, sizeof(number), "%d", fd);
	if (setenv(HANDOVER_VARIABLE, number, 1) < 0)
		return;
	systemd_watchdog_hand_over(&up->daemon->watchdog);
	(void)execve(request->program, request->argv, environ); /* returns only to fail */
}

/* False: something has begun that cannot be handed over. Signals are blocked, and none that has come before is on its way. */
static bool upgrade_stop(struct upgrade *up)
{
	struct daemon *d = up->daemon;

	block_signals(SIG_BLOCK);
	loop_turn_once(d->loop);
	up->stopped = loop_now(d->loop);
	for (unsigned i = 0; i < d->n_pools; i++)
		handover_end_output(d->pools[i]);
	return !daemon_obstacle(d) && up->state == UPGRADE_WAITING;
}

/* The daemon goes on as before. */
static void upgrade_go_back(struct upgrade *up, int error)
{
	char message[FAILURE_TEXT];

	(void)snprintf(message, sizeof(message), "%s cannot be executed: %s; nothing is changed", up->daemon->request->program,
		       strerror(error));
	(void)unsetenv(HANDOVER_VARIABLE);
	(void)close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC); /* as they were */
	upgrade_fail(up, ERROR_INIT_FAILED, message);
}

void upgrade_go(struct upgrade *up)
{
	_cleanup_close_ int fd = -1;

	up->go = false;
	if (upgrade_stop(up)) {
		LOG(INFO, "daemon.upgrade", KV("program", up->daemon->request->program), KV("from", PYPOOL_VERSION));
		fd = upgrade_write(up);
		if (fd >= 0)
			upgrade_execute(up, fd);
		upgrade_go_back(up, fd < 0 ? -fd : errno);
	} else if (up->state == UPGRADE_WAITING) {
		loop_timer_set(&up->timer, loop_now(up->daemon->loop));
	}
	block_signals(SIG_UNBLOCK);
}

/* --- life --- */

static void ignore_control(struct process *p, struct span message)
{
	(void)p, (void)message;
}

static void ignore(struct process *p)
{
	(void)p;
}

static void ignore_dump(struct process *p, struct span text, bool complete)
{
	(void)p, (void)text, (void)complete;
}

static const struct process_ops trial_ops = {
	.exited = upgrade_on_tried,
	.control = ignore_control,
	.control_closed = ignore,
	.output = ignore,
	.dumped = ignore_dump,
};

void upgrade_init(struct upgrade *up, struct daemon *d)
{
	*up = (struct upgrade){ .daemon = d };
	loop_timer_init(&up->timer, d->loop, upgrade_on_timer);
}

void upgrade_deinit(struct upgrade *up)
{
	if (!up->daemon)
		return;
	loop_timer_stop(&up->timer);
	if (process_is_running(&up->trial)) {
		(void)process_signal(&up->trial, SIGKILL); /* it fails when it has just ended */
		up->trial.pid = 0; /* its parent ends, and with it this process */
	}
	process_deinit(&up->trial);
}

void upgrade_begin(struct upgrade *up)
{
	if (up->state != UPGRADE_NONE)
		return;
	process_deinit(&up->trial); /* that of the one before; the first time nothing */
	process_init(&up->trial, up->daemon->loop, &trial_ops, TRIAL_BYTES, TRIAL_LINES);
	upgrade_try(up);
}
