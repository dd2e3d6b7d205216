/* pypoolctl metrics */
#include "client/ctl/metrics.h"

#include "client/ctl/ctl.h"
#include "client/ctl/exposition.h"

/* One number each: name, the key that has it, what it is. */
#define GAUGE(name, path, help) { name, METRIC_GAUGE, help, metric_number, path, 0, NULL, NULL }
#define COUNTER(name, path, help) { name, METRIC_COUNTER, help, metric_number, path, 0, NULL, NULL }
/* Times: 10^-digits s. */
#define SECONDS(name, path, digits, help) { name, METRIC_GAUGE, help, metric_number, path, digits, NULL, NULL }
#define HISTOGRAM(name, path, help) { name, METRIC_HISTOGRAM, help, metric_histogram, path, 6, NULL, NULL }
#define PHASES(name, path, help) { name, METRIC_GAUGE, help, metric_phases, path, 0, "phase", NULL }
#define STATES(name, path, values, help) { name, METRIC_GAUGE, help, metric_states, path, 0, "state", values }

static const struct metric daemon_metrics[] = {
	{ "pypool_build", METRIC_INFO, "Version of pypoold.", metric_label, "version", 0, "version", NULL },
	SECONDS("pypool_start_time_seconds", "started_ms", 3, "When pypoold was started, in UNIX time."),
	STATES("pypool_daemon_state", "state", "starting running draining", "1 for the state that pypoold is in."),
	GAUGE("pypool_clients", "clients", "Connections to pypoold; whoever asks for the metrics is one."),
	COUNTER("pypool_received_bytes", "bytes_in", "Bytes from all connections; not those of direct leases."),
	COUNTER("pypool_sent_bytes", "bytes_out", "Bytes to all connections; not those of direct leases."),
	SECONDS("pypool_worst_loop_stall_seconds", "worst_stall_us", 6, "Longest turn of the event loop since the start."),
	COUNTER("pypool_log_lines_dropped", "log_dropped", "Log lines that were not written: too many, or the sink was full."),
	{ 0 },
};

static const struct metric pool_metrics[] = {
	STATES("pypool_pool_state", "state", "starting serving degraded paused open down draining stopped",
	       "1 for the state that the pool is in."),
	GAUGE("pypool_pool_generation", "generation",
	      "Which code and configuration the pool has: one more with each reload."),
	{ "pypool_workers", METRIC_GAUGE, "Living workers, by their state.", metric_keys, "", 0, "state",
	  "starting initializing idle busy draining stopping" },
	GAUGE("pypool_workers_minimum", "min_workers", "Setting min_workers."),
	GAUGE("pypool_workers_maximum", "max_workers", "Setting max_workers."),
	GAUGE("pypool_workers_due", "due", "Workers that will be replaced."),
	COUNTER("pypool_worker_spawns", "spawned", "Worker processes that were started."),
	COUNTER("pypool_worker_adoptions", "adopted", "Worker processes of a daemon that crashed, which this one goes on with."),
	{ "pypool_worker_deaths", METRIC_COUNTER, "Workers that ended, by why they did.", metric_map, "deaths", 0, "reason",
	  NULL },
	PHASES("pypool_worker_init_seconds", "init", "What the start of the newest worker took, by phase."),
	GAUGE("pypool_calls_queued", "queued", "Calls that wait for a worker."),
	GAUGE("pypool_calls_queued_maximum", "max_queue", "Setting max_queue; 0: no limit."),
	GAUGE("pypool_calls_running", "running", "Calls that run."),
	COUNTER("pypool_calls_accepted", "accepted", "Calls that were taken."),
	{ "pypool_calls_ended", METRIC_COUNTER, "Calls that are over, by how; abandoned: their client had gone.", metric_keys,
	  "", 0, "outcome", "completed failed cancelled abandoned" },
	HISTOGRAM("pypool_call_wait_seconds", "wait", "From reading a call to giving it to a worker."),
	HISTOGRAM("pypool_call_run_seconds", "run", "From giving a call to a worker to its end."),
	GAUGE("pypool_sessions", "sessions", "Sessions, open and lost."),
	COUNTER("pypool_sessions_opened", "sessions_opened", "Sessions that were opened."),
	COUNTER("pypool_sessions_lost", "sessions_lost", "Sessions that lost their worker."),
	COUNTER("pypool_sessions_expired", "sessions_expired", "Sessions that were not used for too long."),
	GAUGE("pypool_leases", "leased", "Workers that are leased."),
	COUNTER("pypool_leases_granted", "leases", "Leases that were given."),
	COUNTER("pypool_direct_calls", "direct_calls", "Calls of direct leases that have ended; in no other count."),
	COUNTER("pypool_direct_errors", "direct_errors", "Those of them that failed."),
	STATES("pypool_breaker_state", "breaker.state", "closed open half-open", "1 for the state that the breaker is in."),
	GAUGE("pypool_breaker_failures", "breaker.failures", "Failures in a row that the breaker has counted."),
	COUNTER("pypool_breaker_opened", "breaker.opened", "How often the breaker has opened."),
	STATES("pypool_template_state", "template.state", "none starting warm unfit lost",
	       "1 for the state that the template is in."),
	COUNTER("pypool_template_forks", "template.forks", "Workers that this template has forked."),
	COUNTER("pypool_template_lost", "template.lost", "How often this template's process was lost."),
	PHASES("pypool_template_init_seconds", "template.init", "What the start of the template took, by phase."),
	COUNTER("pypool_reloads", "reloads", "Reloads that replaced all workers."),
	COUNTER("pypool_reloads_failed", "reloads_failed", "Reloads whose first worker could not be started."),
	{ 0 },
};

void metrics_print(FILE *out, bool open, struct span status, struct span pools)
{
	struct exposition e = { .out = out, .open = open };

	exposition_of_map(&e, daemon_metrics, status);
	exposition_of_pools(&e, pool_metrics, pools);
	if (open)
		fputs("# EOF\n", out);
}

int metrics_ask(struct ctl *ctl, FILE *out, bool open)
{
	struct pypool_reply *status, *pools;
	int r = ctl_ask_about(ctl, "status", NULL, &status);

	if (r != CTL_OK)
		return r;
	r = ctl_ask_about(ctl, "pools", NULL, &pools);
	if (r == CTL_OK) {
		metrics_print(out, open, ctl_value(status), ctl_value(pools));
		(void)pypool_reply_free(pools);
	}
	(void)pypool_reply_free(status);
	return r;
}

int command_metrics(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "openmetrics", no_argument, NULL, 'o' },
						 { "http", no_argument, NULL, 's' },
						 { NULL, 0, NULL, 0 } };
	bool open = false, serve = false;
	int c;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) != -1) {
		if (c == 'h' || c == '?')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		open = open || c == 'o';
		serve = serve || c == 's';
	}
	if (optind < argc)
		return ctl_usage(ctl, "no argument is expected, got '%s'", argv[optind]);
	if (ctl->json)
		return ctl_usage(ctl, "metrics are no JSON; status and pools have their numbers");
	if (open && serve)
		return ctl_usage(ctl, "with --http it is the request that chooses the format");
	return serve ? metrics_serve(ctl) : metrics_ask(ctl, stdout, open);
}
