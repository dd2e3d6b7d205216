/* How the pools of a running daemon do: starts, templates, codec, init. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/doctor.h"

static bool text_is(struct span map, const char *key, const char *word)
{
	struct span value = cell_of(map, key), text;

	return mp_read_text(&value, &text) && span_equals(text, word);
}

static void check_start(struct doctor *d, struct span pool, const char *name)
{
	char *message = doctor_text(cell_of(cell_of(pool, "last_failure"), "message"));

	if (message) {
		doctor_tell(d, DOCTOR_ERROR, "start", name, "its last worker could not be started: %s", message);
		doctor_advise(d, "pypoolctl why pool %s tells more; after a change of the code: pypoolctl reload %s", name, name);
	}
	free(message);
	if (text_is(cell_of(pool, "breaker"), "state", "open")) {
		doctor_tell(d, DOCTOR_ERROR, "breaker", name, "it is open: calls are refused");
		doctor_advise(d, "pypoolctl why pool %s has the causes.", name);
	}
	if (text_is(pool, "state", "paused")) {
		doctor_tell(d, DOCTOR_WARNING, "paused", name, "it is paused: calls wait");
		doctor_advise(d, "pypoolctl resume %s", name);
	}
}

static void check_template(struct doctor *d, struct span pool, const char *name)
{
	struct span template = cell_of(pool, "template");
	char *reason;

	if (!template.len)
		return; /* start = exec */
	reason = doctor_text(cell_of(template, "reason"));
	if (text_is(template, "state", "unfit")) {
		doctor_tell(d, DOCTOR_WARNING, "template", name, "workers cannot be forked, each has an interpreter of its own: %s",
			    reason ? reason : "-");
		doctor_advise(d, "Start threads and open connections in @on_start or at the first call, not in the import;\n"
				 "or write start = exec, so that no template is tried.");
	} else if (reason) {
		doctor_tell(d, DOCTOR_WARNING, "template", name, "its template was lost: %s", reason);
		doctor_advise(d, "pypoolctl logs --pool %s", name);
	} else {
		doctor_tell(d, DOCTOR_OK, "template", name, "workers are forked from a warm template");
	}
	free(reason);
}

/* ---- init */

static double phase_ms(struct span phase)
{
	struct span ms = cell_of(phase, "ms");
	double v = 0;

	(void)pypool_get_double((struct pypool_span){ .data = ms.p, .size = ms.len }, &v); /* else 0 */
	return v;
}

static double phases_ms(struct span phases)
{
	struct span phase;
	double sum = 0;
	uint32_t n;

	if (!mp_read_array(&phases, &n))
		return 0;
	for (; n > 0 && mp_read_any(&phases, &phase); n--)
		sum += phase_ms(phase);
	return sum;
}

static struct span config_of(struct doctor *d, const char *name)
{
	struct span pools = cell_of(d->answers[ANSWER_CONFIG], "pools"), map;
	uint32_t n;

	if (!mp_read_array(&pools, &n))
		return (struct span){ 0 };
	for (; n > 0 && mp_read_any(&pools, &map); n--) {
		if (text_is(map, "name", name))
			return cell_of(map, "options");
	}
	return (struct span){ 0 };
}

static void check_init(struct doctor *d, struct span pool, const char *name)
{
	struct span first = cell_of(cell_of(pool, "template"), "init");
	struct span phases = first.len ? first : cell_of(pool, "init");
	uint64_t limit = doctor_number(config_of(d, name), "init_timeout");
	double ms = phases_ms(phases);
	char *text = phases.len ? cell_init(phases) : NULL;

	if (!text)
		return;
	if (limit && ms * 2 > (double)limit) {
		doctor_tell(d, DOCTOR_WARNING, "init", name, "it took %.0f ms of the %llu ms of init_timeout: %s", ms,
			    (unsigned long long)limit, text);
		doctor_advise(d, "pypoolctl doctor --imports shows which modules are slow; else raise init_timeout.");
	} else {
		doctor_tell(d, DOCTOR_OK, "init", name, "%.0f ms: %s", ms, text);
	}
	free(text);
}

/* ---- codec */

static void check_codec(struct doctor *d, struct span pool, const char *name)
{
	struct span list = d->answers[ANSWER_WORKERS], worker;
	unsigned n_c = 0, n_python = 0;
	char *python;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &worker); n--) {
		if (!text_is(worker, "pool", name) || text_is(worker, "state", "dead"))
			continue;
		n_c += text_is(worker, "codec", "c");
		n_python += text_is(worker, "codec", "python");
	}
	python = doctor_text(cell_of(pool, "python"));
	if (n_python) {
		doctor_tell(d, DOCTOR_WARNING, "codec", name, "msgpack is pure Python there: about 20 us more for each call");
		doctor_advise(d, "%s -m pip install msgpack, or for the system's Python: apt install python3-msgpack; then\n"
				 "pypoolctl reload %s", python ? python : "python3", name);
	} else if (n_c) {
		doctor_tell(d, DOCTOR_OK, "codec", name, "msgpack is in C");
	}
	free(python);
}

static void check_recorder(struct doctor *d, struct span pool, const char *name)
{
	if (!text_is(pool, "recorder", "unusable"))
		return;
	doctor_tell(d, DOCTOR_WARNING, "recorder", name, "calls that fail are not recorded: the directory cannot be used");
	doctor_advise(d, "Make the directory of record_failures for the daemon's user, and restart pypoold; its log has the reason.");
}

static void check_pool(struct doctor *d, struct span pool, const char *name)
{
	check_start(d, pool, name);
	check_template(d, pool, name);
	check_init(d, pool, name);
	check_codec(d, pool, name);
}

void doctor_check_pools(struct doctor *d)
{
	doctor_each(d, d->answers[ANSWER_POOLS], check_pool);
	doctor_each(d, cell_of(d->answers[ANSWER_STATUS], "pools"), check_recorder);
}
