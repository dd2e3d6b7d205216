/* One row per command, in the order of the help. */
#include <string.h>

#include "client/ctl/ctl.h"

static const struct command commands[] = {
	{ "status", "", "the daemon and its pools in short", command_status },
	{ "pools", "[--pool POOL]", "pools with counters and timings", command_pools },
	{ "workers", "[--pool POOL]", "worker processes, living and lately dead", command_workers },
	{ "sessions", "[--pool POOL]", "sessions of all users", command_sessions },
	{ "leases", "[--pool POOL]", "leased workers, and who holds them", command_leases },
	{ "clients", "", "connections to the daemon", command_clients },
	{ "queue", "[--pool POOL]", "calls that wait or run", command_queue },
	{ "logs", "[--pool POOL] [--worker WORKER] [-n LINES] [-f] [WORKER|POOL]", "last output lines of workers, also of dead ones",
	  command_logs },
	{ "top", "[--pool POOL] [-d SECONDS] [-n N] [--once]", "pools, workers and what waits, again and again", command_top },
	{ "events", "[--pool POOL] [KIND...]", "what happens, as it happens", command_events },
	{ "why", "[call|worker|pool] CALL|WORKER|POOL", "what a call, a worker or a pool is doing, and why",
	  command_why },
	{ "stack", "WORKER", "where a worker is now: its Python stack, and what its process does", command_stack },
	{ "metrics", "[--openmetrics|--http]", "the numbers of status and pools for Prometheus", command_metrics },
	{ "doctor", "[--imports] [--config PATH] [--unit UNIT]", "what is wrong, or will be, and what to do about it", command_doctor },
	{ "reload", "[POOL...] [--wait] [--dry-run]", "new workers with code and configuration as they are now", command_reload },
	{ "pause", "[POOL...] [--wait]", "start no more calls; those that come wait", command_pause },
	{ "resume", "[POOL...] [--wait]", "go on after pause or drain", command_resume },
	{ "drain", "[POOL...] [--wait]", "pause, and wait until nothing runs", command_drain },
	{ "resize", "POOL [--min N] [--max N] [--wait]", "other numbers of workers, until the next reload", command_resize },
	{ "recycle", "[POOL|WORKER]... [--wait]", "replace workers, each after its call", command_recycle },
	{ "kill", "WORKER... [--wait]", "kill workers, whatever they run", command_kill },
	{ "config", "[POOL]", "the configuration in force, and where each option is given", command_config },
	{ "upgrade", "", "execute the daemon's program anew; calls and connections go on", command_upgrade },
	{ "shutdown", "[--now]", "end the daemon", command_shutdown },
	{ "call",
	  "TARGET [JSON...] [--kw KEY=VALUE]... [--pool POOL] [--session SESSION] [--timeout TIME] [--idempotent]",
	  "call a handler and print its result as JSON", command_call },
	{ "ping", "[--wait [TIME]] [--ready]", "does the daemon answer? --wait: wait until it does (30s); --ready: and its pools",
	  command_ping },
	{ "version", "", "versions of pypoolctl and of the daemon", command_version },
	{ "help", "[COMMAND]", "this text, or how to use one command", command_help },
	{ NULL, NULL, NULL, NULL },
};

/* For programs: in no help, but found by its name. */
static const struct command words = {
	.name = "words",
	.arguments = "[COMMAND|KIND]",
	.summary = "what may be completed, for shells",
	.run = command_words,
};

const struct command *command_list(void)
{
	return commands;
}

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return strcmp(words.name, name) == 0 ? &words : NULL;
}
