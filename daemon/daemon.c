#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/config_show.h"
#include "daemon/confine.h"
#include "daemon/pool/failure.h"
#include "daemon/front/handover.h"
#include "daemon/front/upgrade.h"
#include "daemon/renewal.h"

#define BIG_BLOB_KEPT (2 * NS_PER_S)
#define DEFAULT_PATIENCE (30 * NS_PER_S) /* without a drain_timeout */

static struct daemon *daemon_of_server(struct server *s)
{
	return container_of(s, struct daemon, server);
}

static const char *daemon_state(struct server *s)
{
	static const char *const names[] = {
		[DAEMON_STARTING] = "starting",
		[DAEMON_RUNNING] = "running",
		[DAEMON_DRAINING] = "draining",
		[DAEMON_CLOSING] = "draining",
	};

	return names[daemon_of_server(s)->phase];
}

static void daemon_on_idle(struct server *s)
{
	struct daemon *d = daemon_of_server(s);

	if (d->phase == DAEMON_CLOSING)
		loop_defer(d->loop, &d->stop);
}

static void daemon_leave_loop(struct loop_task *t)
{
	struct daemon *d = container_of(t, struct daemon, stop);

	d->over = true;
	loop_stop(d->loop);
}

/* pools have no user data: there is one daemon in a process, and it is found by its pools' env */
static struct daemon *daemon_of_pool(struct pool *p)
{
	return container_of(p->registry, struct daemon, registry);
}

/* STATUS for systemctl: how many workers serve, and which pools do not. */
static void daemon_tell_status(const struct daemon *d)
{
	char text[512];
	unsigned serving = 0, wanted = 0;
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < d->n_pools; i++) {
		const struct pool *p = d->pools[i];

		serving += p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY];
		wanted += p->settings->min_workers;
		if (p->supply.failure && used < sizeof(text))
			used += (size_t)snprintf(text + used, sizeof(text) - used, "; degraded: %s (%s)",
						 p->settings->name, p->supply.failure->message);
	}
	for (char *c = text; *c; c++) {
		if (*c == '\n')
			*c = ' '; /* a newline would end the field */
	}
	systemd_notify("STATUS=%u of %u workers serving%s", serving, wanted, text);
}

static void daemon_refuse_degraded(struct daemon *d)
{
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (d->pools[i]->supply.failure)
			LOG(ERROR, "daemon.require_all", KV("pool", d->pools[i]->settings->name),
			    KV("reason", d->pools[i]->supply.failure->message));
	}
	d->exit_code = 1;
}

static bool daemon_is_degraded(const struct daemon *d)
{
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (d->pools[i]->supply.failure)
			return true;
	}
	return false;
}

static void daemon_drain(struct daemon *d)
{
	if (d->phase >= DAEMON_DRAINING)
		return;
	d->phase = DAEMON_DRAINING;
	LOG(INFO, "daemon.draining");
	systemd_notify("STOPPING=1\nSTATUS=draining");
	if (d->config->drain_timeout)
		loop_timer_set(&d->drain_timer, loop_now(d->loop) + d->config->drain_timeout);
	for (unsigned i = 0; i < d->n_pools; i++)
		pool_drain(d->pools[i]);
}

static void daemon_stop_now(struct daemon *d)
{
	daemon_drain(d);
	LOG(INFO, "daemon.stopping_now");
	for (unsigned i = 0; i < d->n_pools; i++)
		pool_stop_now(d->pools[i]);
}

static void daemon_on_shutdown(struct server *s, bool now)
{
	struct daemon *d = daemon_of_server(s);

	LOG(INFO, "daemon.shutdown", KV("now", now));
	if (now)
		daemon_stop_now(d);
	else
		daemon_drain(d);
}

static bool daemon_on_renew(struct server *s, const struct pool *p, bool dry, const struct pool_settings **to, char **why)
{
	const struct config *c = renewal_read(daemon_of_server(s), dry, why);

	if (c)
		*to = config_find_pool(c, p->settings->name);
	return c;
}

static struct config_view daemon_view(const struct daemon *d)
{
	return (struct config_view){ .now = d->config, .first = d->first, .request = d->request };
}

static void daemon_on_show(struct server *s, msgpack_packer *pk)
{
	struct config_view v = daemon_view(daemon_of_server(s));

	config_show_top(&v, pk);
}

static void daemon_on_show_pool(struct server *s, const struct pool *p, msgpack_packer *pk)
{
	struct config_view v = daemon_view(daemon_of_server(s));

	config_show_pool(&v, p->given, p->settings, pk);
}

static void daemon_on_upgrade(struct server *s)
{
	upgrade_begin(&daemon_of_server(s)->upgrade);
}

static const struct server_ops server_ops = {
	.upgrade = daemon_on_upgrade,
	.state = daemon_state,
	.idle = daemon_on_idle,
	.shutdown = daemon_on_shutdown,
	.renew = daemon_on_renew,
	.show = daemon_on_show,
	.show_pool = daemon_on_show_pool,
};

static void daemon_on_settled(struct pool *p)
{
	struct daemon *d = daemon_of_pool(p);

	daemon_tell_status(d);
	if (++d->n_settled < d->n_pools || d->phase != DAEMON_STARTING)
		return;
	if (d->config->require_all && daemon_is_degraded(d)) {
		daemon_refuse_degraded(d);
		daemon_stop_now(d);
		return;
	}
	d->phase = DAEMON_RUNNING;
	LOG(INFO, "daemon.ready", KV("pools", d->n_pools), KV("degraded", daemon_is_degraded(d)));
	systemd_notify("READY=1");
	daemon_tell_status(d);
}

static void daemon_on_stopped(struct pool *p)
{
	struct daemon *d = daemon_of_pool(p);

	if (++d->n_stopped < d->n_pools)
		return;
	d->phase = DAEMON_CLOSING;
	loop_timer_stop(&d->drain_timer);
	server_close(&d->server);
}

static const struct pool_ops pool_ops = { .settled = daemon_on_settled, .stopped = daemon_on_stopped };

static void daemon_on_drain_over(struct loop_timer *t)
{
	daemon_stop_now(container_of(t, struct daemon, drain_timer));
}

/* The first one drains, a second one does not wait. */
static void daemon_on_stop_signal(struct daemon *d, int signo)
{
	LOG(INFO, "daemon.signal", KV("signal", signo));
	if (d->phase >= DAEMON_DRAINING)
		daemon_stop_now(d);
	else
		daemon_drain(d);
}

static void daemon_on_term(struct loop_signal *s, int signo)
{
	daemon_on_stop_signal(container_of(s, struct daemon, term), signo);
}

static void daemon_on_intr(struct loop_signal *s, int signo)
{
	daemon_on_stop_signal(container_of(s, struct daemon, intr), signo);
}

static void daemon_on_hup(struct loop_signal *s, int signo)
{
	struct daemon *d = container_of(s, struct daemon, hup);

	LOG(INFO, "daemon.reload", KV("signal", signo));
	if (d->phase < DAEMON_DRAINING)
		renewal_reload_all(d);
}

static void daemon_on_big_kept(struct blob_pool *pool)
{
	struct daemon *d = container_of(pool, struct daemon, blobs);

	if (d->trim_timer.at == LOOP_NEVER)
		loop_timer_set(&d->trim_timer, loop_now(d->loop) + BIG_BLOB_KEPT);
}

static void daemon_on_trim(struct loop_timer *t)
{
	struct daemon *d = container_of(t, struct daemon, trim_timer);

	if (d->blobs.big_used)
		loop_timer_set(t, loop_now(d->loop) + BIG_BLOB_KEPT);
	else
		blob_pool_trim(&d->blobs);
	d->blobs.big_used = false;
}

static bool has_pid(const struct worker *list, pid_t pid)
{
	const struct worker *w;

	for (w = list; w && !(process_is_running(&w->proc) && w->proc.pid == pid); w = w->next)
		;
	return w;
}

static bool daemon_owns(struct strays *s, pid_t pid)
{
	const struct daemon *d = container_of(s, struct daemon, strays);

	if (d->upgrade.trial.pid == pid)
		return true;
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (has_pid(d->pools[i]->workers, pid) || has_pid(d->pools[i]->templates, pid))
			return true;
	}
	return false;
}

static bool daemon_expects_fork(struct strays *s)
{
	const struct daemon *d = container_of(s, struct daemon, strays);

	for (unsigned i = 0; i < d->n_pools; i++) {
		if (pool_expects_fork(d->pools[i]))
			return true;
	}
	return false;
}

static bool daemon_has_worker(struct strays *s, uint64_t id)
{
	const struct daemon *d = container_of(s, struct daemon, strays);

	for (unsigned i = 0; i < d->n_pools; i++) {
		const struct pool *p = d->pools[i];

		if (p && (worker_find(p->workers, id) || worker_find(p->templates, id)))
			return true;
	}
	return false;
}

/* The name is FileDescriptorName= of its socket unit: "admin", or any other for the ordinary one. */
static bool daemon_adopt(struct daemon *d, struct named_fd *passed)
{
	struct server *s = &d->server;
	bool is_admin = strcmp(passed->name, "admin") == 0;
	struct listener *l = is_admin ? &s->admin_listener : &s->listener;

	if (l->loop) {
		LOG(ERROR, "listener.failed", KV("name", passed->name),
		    KV("reason", is_admin ? "systemd passed more than one socket named admin"
					  : "systemd passed more than one socket that is not named admin"));
		return false;
	}
	listener_adopt(l, d->loop, TAKE_FD(passed->fd), is_admin ? &server_admin_listener_ops : &server_listener_ops);
	LOG(INFO, "listener.open", KV("socket", "systemd"), KV("name", passed->name));
	return true;
}

static bool daemon_open(struct daemon *d)
{
	const struct config *c = d->config;
	const struct listener_spec spec = {
		.path = c->socket,
		.mode = c->socket_mode,
		.group = c->has_socket_group ? c->socket_group : (gid_t)-1,
	};
	char why[512];

	if (!listener_open(&d->server.listener, d->loop, &spec, &server_listener_ops, why)) {
		LOG(ERROR, "listener.failed", KV("reason", why));
		return false;
	}
	LOG(INFO, "listener.open", KV("socket", c->socket));
	return true;
}

static bool daemon_listen(struct daemon *d, struct named_fds *passed)
{
	for (size_t i = 0; i < passed->n; i++) {
		if (!daemon_adopt(d, &passed->all[i]))
			return false;
	}
	return d->server.listener.loop || daemon_open(d);
}

static bool daemon_confine(struct daemon *d)
{
	char why[1024];

	if (confine_prepare(d, d->config, why, sizeof(why)))
		return true;
	LOG(ERROR, "config.refused", KV("reason", why));
	systemd_notify("STATUS=%s", why);
	return false;
}

static void daemon_make_pools(struct daemon *d)
{
	struct pool_env env = {
		.loop = d->loop,
		.blobs = &d->blobs,
		.registry = &d->registry,
		.gate = &d->gate,
		.spawner = spawner_exec(),
		.library = d->library,
		.oom = &d->oom,
		.groups = &d->groups,
	};

	d->pools = mem_new(d->config->n_pools * sizeof(struct pool *));
	d->n_pools = d->config->n_pools;
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (getrandom(&env.seed, sizeof(env.seed), GRND_NONBLOCK) < 0)
			env.seed = loop_now(d->loop); /* it only spreads retries */
		d->pools[i] = pool_new(&d->config->pools[i], &env, &pool_ops);
	}
}

static void daemon_make_server(struct daemon *d)
{
	const struct config *c = d->config;
	const struct server_limits limits = {
		.max_frame = c->max_frame,
		.max_clients = c->max_clients,
		.uid_max_connections = c->uid_max_connections,
		.frame_timeout = c->frame_timeout,
	};

	server_init(&d->server, d->loop, &d->blobs, &d->registry, d->pools, d->n_pools, &limits, &server_ops);
	d->config->access.own_is_admin = !systemd_is_our_parent();
	d->server.access = &d->config->access;
}

static int daemon_init(struct daemon *d)
{
	int r;

	blob_pool_init(&d->blobs);
	registry_init(&d->registry);
	d->registry.limits = d->config->account_limits;
	d->stop.run = daemon_leave_loop;
	d->loop = loop_new();
	if (!d->loop) {
		LOG(ERROR, "daemon.no_loop", KV("errno", errno));
		return -ENOSYS;
	}
	gate_init(&d->gate, d->loop, d->config->start_concurrency);
	cgroups_init(&d->groups, d->loop, "/proc/self/cgroup", "/sys/fs/cgroup");
	oom_init(&d->oom, d->groups.proc, d->groups.root);
	loop_timer_init(&d->drain_timer, d->loop, daemon_on_drain_over);
	loop_timer_init(&d->trim_timer, d->loop, daemon_on_trim);
	d->blobs.kept_big = daemon_on_big_kept;
	r = strays_start(&d->strays, d->loop, daemon_owns);
	if (r < 0)
		LOG(WARN, "daemon.no_subreaper", KV("errno", -r)); /* orphans of workers stay with init */
	else
		d->strays.lives = daemon_has_worker;
	daemon_make_pools(d);
	d->strays.expecting = daemon_expects_fork;
	daemon_make_server(d);
	upgrade_init(&d->upgrade, d);
	return 0;
}

/* They were blocked while another program was executed, perhaps. */
static void daemon_unblock_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL); /* cannot fail with valid arguments */
}

static void daemon_start(struct daemon *d)
{
	int r;

	loop_signal_start(&d->term, d->loop, SIGTERM, daemon_on_term);
	loop_signal_start(&d->intr, d->loop, SIGINT, daemon_on_intr);
	loop_signal_start(&d->hup, d->loop, SIGHUP, daemon_on_hup);
	daemon_unblock_signals();
	r = systemd_watchdog_start(&d->watchdog, d->loop);
	if (r < 0)
		LOG(WARN, "daemon.watchdog.ignored", KV("errno", -r));
	for (unsigned i = 0; i < d->n_pools; i++)
		pool_start(d->pools[i]);
}

/* It is ending: a signal that tells it to changes nothing any more, least of all the exit code. */
static void daemon_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL); /* cannot fail with valid arguments */
}

static void daemon_stop_watching(struct daemon *d)
{
	daemon_block_signals();
	loop_signal_stop(&d->term);
	loop_signal_stop(&d->intr);
	loop_signal_stop(&d->hup);
	systemd_watchdog_stop(&d->watchdog);
	loop_timer_stop(&d->drain_timer);
}

static void daemon_deinit(struct daemon *d)
{
	if (d->loop) {
		upgrade_deinit(&d->upgrade);
		server_deinit(&d->server);
		strays_stop(&d->strays);
		for (unsigned i = 0; i < d->n_pools; i++)
			d->pools[i] = pool_free(d->pools[i]);
		free(d->pools);
		gate_deinit(&d->gate);
		cgroups_deinit(&d->groups);
		d->blobs.kept_big = NULL;
		loop_timer_stop(&d->trim_timer);
		d->loop = loop_free(d->loop);
	}
	oom_deinit(&d->oom);
	registry_deinit(&d->registry);
	blob_pool_deinit(&d->blobs);
	while (d->config) {
		struct config *c = d->config;

		d->config = c->older;
		config_free(c);
	}
}

/* Goes on where the program before this one has stopped, in this very process. */
static bool daemon_inherit(struct daemon *d, struct inheritance *in)
{
	uint64_t paused;

	if (!inheritance_take(in, d)) {
		LOG(ERROR, "daemon.upgrade.damaged", KV("from", in->from));
		log_close();
		_exit(EXIT_FAILURE); /* what is half taken cannot be taken apart in order; all others find their channels closed */
	}
	d->phase = DAEMON_RUNNING;
	daemon_start(d);
	server_take_waiting(&d->server, &in->u);
	paused = loop_now(d->loop) - in->stopped;
	LOG(INFO, "daemon.upgraded", KV("from", in->from), KV("to", PYPOOL_VERSION), KV("clients", d->server.n_clients),
	    KV("us", paused / 1000));
	upgrade_note_done(&d->server, in->from, paused);
	daemon_tell_status(d);
	inheritance_close(in);
	return true;
}

static bool daemon_begin(struct daemon *d, struct named_fds *passed, struct named_fds *left, struct inheritance *in)
{
	if (in->memory)
		return daemon_inherit(d, in);
	if (!daemon_listen(d, passed))
		return false;
	keeping_begin(&d->keeping, d, left);
	daemon_start(d);
	return true;
}

/* An exit code: 0 when it has begun. */
static int daemon_come_up(struct daemon *d, struct named_fds *passed, struct named_fds *left, struct inheritance *inheritance)
{
	if (daemon_init(d) < 0)
		return 1;
	if (!daemon_confine(d))
		return DAEMON_EXIT_CONFIG;
	return daemon_begin(d, passed, left, inheritance) ? 0 : 1;
}

static void daemon_loop(struct daemon *d)
{
	loop_run(d->loop);
	while (!d->over) {
		upgrade_go(&d->upgrade); /* nothing else leaves it */
		loop_run(d->loop);
	}
}

int daemon_run(struct config *config, const struct config_request *request, struct named_fds *passed,
	       struct named_fds *left, struct inheritance *inheritance)
{
	struct daemon d = { .config = config, .first = config, .request = request, .library = request->library };
	int code;

	LOG(INFO, "daemon.start", KV("version", PYPOOL_VERSION), KV("pid", getpid()));
	code = daemon_come_up(&d, passed, left, inheritance);
	if (code != 0) {
		d.exit_code = code;
	} else {
		daemon_loop(&d);
		daemon_stop_watching(&d);
		d.registry.keeper = NULL; /* sessions end with their pools, and nobody shall take them up */
		keeping_end(&d.keeping);
	}
	daemon_deinit(&d);
	LOG(INFO, "daemon.stop", KV("code", d.exit_code), KV("bugs", log_bugs()));
	return d.exit_code;
}

/* --- for an upgrade --- */

struct pool *daemon_find_pool(const struct daemon *d, struct span name)
{
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (span_equals(name, d->pools[i]->settings->name))
			return d->pools[i];
	}
	return NULL;
}

const char *daemon_obstacle(const struct daemon *d)
{
	const char *why = d->phase == DAEMON_RUNNING ? server_obstacle(&d->server) :
			  d->phase == DAEMON_STARTING ? "the daemon is starting" :
							"the daemon is shutting down";

	for (unsigned i = 0; i < d->n_pools && !why; i++)
		why = handover_obstacle(d->pools[i]);
	return why;
}

uint64_t daemon_patience(const struct daemon *d)
{
	return d->config->drain_timeout ? d->config->drain_timeout : DEFAULT_PATIENCE;
}
