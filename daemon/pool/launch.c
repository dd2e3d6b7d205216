#include "daemon/pool/launch.h"

#include <errno.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/io/cgroup.h"
#include "daemon/io/mark.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/template.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

/* The environment and how a descendant that has left its group is known. */
static char **with_marker(char *const *environment, char *marker)
{
	size_t n = 0;
	char **with;

	while (environment && environment[n])
		n++;
	with = mem_resize(NULL, n + 2, sizeof(char *));
	for (size_t i = 0; i < n; i++)
		with[i] = environment[i];
	with[n] = marker;
	with[n + 1] = NULL;
	return with;
}

/* The one of its generation, or NULL: each worker has an interpreter of its own. */
static struct template *launch_template(const struct worker *w)
{
	struct pool *p = w->pool;
	struct template *const known[] = { p->template, p->reload.next };

	for (size_t i = 0; i < ARRAY_SIZE(known) && !w->is_template; i++) {
		if (known[i] && known[i]->generation == w->generation)
			return known[i];
	}
	return NULL;
}

bool launch_forks(const struct worker *w)
{
	const struct template *t = launch_template(w);

	return t && template_is_warm(t);
}

/* What a template forks is in its group until the daemon has heard of it: room for all of them, and for the middle ones of
 * double forks. */
static uint64_t launch_pids(const struct worker *w, const struct pool_settings *s)
{
	return s->limit_pids && w->is_template ? s->limit_pids + 4ull * s->max_workers : s->limit_pids;
}

static struct cgroup_limits launch_limits(const struct worker *w)
{
	const struct pool_settings *s = pool_settings_of(w);

	return (struct cgroup_limits){ .memory = s->limit_memory, .pids = launch_pids(w, s) };
}

/* Gives it a group of its own, when it has limits that need one. 0 or a negative errno. */
static int launch_confine(struct worker *w)
{
	const struct cgroup_limits limits = launch_limits(w);
	int r;

	if (!limits.memory && !limits.pids)
		return 0;
	r = w->pool->groups ? cgroup_new(w->pool->groups, w->id, &limits, &w->proc.group) : -ENODEV;
	w->unconfined = r < 0;
	return r;
}

void launch_confine_again(struct worker *w)
{
	const struct cgroup_limits limits = launch_limits(w);

	if (w->pool->groups)
		(void)cgroup_adopt(w->pool->groups, w->proc.pid, &limits, &w->proc.group); /* it says so in the log */
}

int launch_exec(struct worker *w, int *calls_fd)
{
	struct pool *p = w->pool;
	const struct pool_settings *s = pool_settings_of(w);
	_cleanup_free_ char *script = mem_printf("%s/python_worker/run_worker.py", p->library);
	_cleanup_free_ char *marker = mem_printf("PYPOOL_WORKER=%llu", (unsigned long long)w->id);
	_cleanup_free_ char **environment = with_marker(s->environment, marker);
	char *const argv[] = { s->python, script, w->is_template ? "template" : NULL, NULL };
	const struct process_spec spec = {
		.path = s->python,
		.argv = argv,
		.envp = environment,
		.uid = s->has_user ? s->uid : (uid_t)-1,
		.gid = s->has_user ? s->gid : (gid_t)-1,
		.limit_nofile = s->limit_nofile,
		.limit_as = s->limit_as,
		.die_with_daemon = w->is_template || !p->registry->keeper,
		.worker = w->id,
	};
	int r = launch_confine(w);

	return r < 0 ? r : process_start(&w->proc, p->spawner, &spec, calls_fd);
}

bool launch_asks(struct worker *w, int *calls_fd)
{
	int r;

	if (!launch_forks(w))
		return false;
	r = template_fork(launch_template(w), w, calls_fd);
	if (r < 0)
		LOG(WARN, "template.fork.failed", KV("pool", w->pool->settings->name), KV("worker", w->id),
		    KV("errno", -r));
	return r == 0;
}

/* [2, name, [{...}]] up to the pairs, which follow. */
static void news_begin(msgpack_sbuffer *buf, msgpack_packer *pk, const char *name, uint32_t pairs)
{
	packed_begin(buf, pk);
	msgpack_pack_array(pk, 3);
	msgpack_pack_int(pk, ENVELOPE_NOTIFICATION);
	pack_text(pk, name);
	msgpack_pack_array(pk, 1);
	msgpack_pack_map(pk, pairs);
}

int launch_send_adopt(struct worker *w, uint64_t seq)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "adopt", 1);
	pack_kv_uint(&pk, "seq", seq);
	return process_send_calls(&w->proc, buf.data, buf.size);
}

int launch_send_init(struct worker *w)
{
	const struct pool_settings *s = pool_settings_of(w);
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "init", 9);
	pack_kv_text(&pk, "app", s->app);
	pack_kv_list(&pk, "path", s->path);
	pack_kv_list(&pk, "preload", s->preload);
	pack_kv_list(&pk, "modules", s->modules);
	pack_kv_text(&pk, "warmup", s->warmup);
	pack_kv_text(&pk, "pool", s->name);
	pack_kv_uint(&pk, "worker", w->id);
	pack_kv_uint(&pk, "generation", w->generation);
	pack_kv_uint(&pk, "max_reply", s->max_reply);
	return process_control_send(&w->proc, buf.data, buf.size);
}

int launch_fork(struct worker *w, struct worker *process, int *calls_fd)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;
	int r = launch_confine(w);

	news_begin(&buf, &pk, "fork", 4);
	pack_kv_uint(&pk, "worker", w->id);
	pack_kv_uint(&pk, "mark", mark_make(w->id));
	pack_kv_bool(&pk, "outlive", w->pool->registry->keeper != NULL);
	pack_kv_bool(&pk, "go", !w->proc.group); /* it begins in its template's group, where it must not run the application */
	return r < 0 ? r : process_fork(&w->proc, &process->proc, buf.data, buf.size, calls_fd);
}

int launch_send_stop(struct worker *w)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "stop", 0);
	return process_control_send(&w->proc, buf.data, buf.size);
}

int launch_send_ping(struct worker *w)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "ping", 1);
	pack_kv_uint(&pk, "seq", ++w->ping_seq);
	return process_control_send(&w->proc, buf.data, buf.size);
}

int launch_send_channel(struct worker *w, uint64_t lease, int fd)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "channel", 1);
	pack_kv_uint(&pk, "lease", lease);
	return process_control_send_fd(&w->proc, buf.data, buf.size, fd);
}

int launch_send_forget(struct worker *w, uint64_t session, uint64_t sends)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	news_begin(&buf, &pk, "forget", 2);
	pack_kv_uint(&pk, "session", session);
	pack_kv_uint(&pk, "send", sends);
	return process_control_send(&w->proc, buf.data, buf.size);
}
