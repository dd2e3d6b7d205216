/* Every kind of metric that pypoolctl makes of an answer, to the byte. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/json.h"
#include "client/ctl/metrics.h"

static struct span encode(const char *json, msgpack_sbuffer *b)
{
	struct json_error error;

	msgpack_sbuffer_init(b);
	ck_assert_msg(json_parse(span_str(json), b, &error), "%s: %s", json, error.message);
	return (struct span){ .p = (const uint8_t *)b->data, .len = b->size };
}

static char *print(bool open, const char *status, const char *pools)
{
	msgpack_sbuffer one, two;
	struct span s = encode(status, &one), p = encode(pools, &two);
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	metrics_print(out, open, s, p);
	ck_assert_int_eq(fclose(out), 0);
	msgpack_sbuffer_destroy(&one);
	msgpack_sbuffer_destroy(&two);
	return text;
}

static void ck_prints(bool open, const char *status, const char *pools, const char *expected)
{
	char *text = print(open, status, pools);

	ck_assert_str_eq(text, expected);
	free(text);
}

/* Without the lines that begin with #. */
static void ck_samples(const char *status, const char *pools, const char *expected)
{
	char *text = print(false, status, pools), *rest = text, *line, *samples = calloc(1, strlen(text) + 1);

	while ((line = strsep(&rest, "\n")))
		if (*line && *line != '#')
			strcat(strcat(samples, line), "\n");
	ck_assert_str_eq(samples, expected);
	free(samples);
	free(text);
}

static const char status[] =
	"{\"version\": \"1.2.3\", \"started_ms\": 1700000000250, \"state\": \"running\", \"clients\": 3, \"bytes_in\": 90, \"bytes_out\": 4294967296, "
	"\"worst_stall_us\": 2500, \"log_dropped\": 7}";

START_TEST(what_is_told_of_the_daemon)
	{
		ck_prints(false, status, "[]",
			  "# HELP pypool_build_info Version of pypoold.\n"
			  "# TYPE pypool_build_info gauge\n"
			  "pypool_build_info{version=\"1.2.3\"} 1\n"
			  "# HELP pypool_start_time_seconds When pypoold was started, in UNIX time.\n"
			  "# TYPE pypool_start_time_seconds gauge\n"
			  "pypool_start_time_seconds 1700000000.25\n"
			  "# HELP pypool_daemon_state 1 for the state that pypoold is in.\n"
			  "# TYPE pypool_daemon_state gauge\n"
			  "pypool_daemon_state{state=\"starting\"} 0\n"
			  "pypool_daemon_state{state=\"running\"} 1\n"
			  "pypool_daemon_state{state=\"draining\"} 0\n"
			  "# HELP pypool_clients Connections to pypoold; whoever asks for the metrics is one.\n"
			  "# TYPE pypool_clients gauge\n"
			  "pypool_clients 3\n"
			  "# HELP pypool_received_bytes_total Bytes from all connections; not those of direct leases.\n"
			  "# TYPE pypool_received_bytes_total counter\n"
			  "pypool_received_bytes_total 90\n"
			  "# HELP pypool_sent_bytes_total Bytes to all connections; not those of direct leases.\n"
			  "# TYPE pypool_sent_bytes_total counter\n"
			  "pypool_sent_bytes_total 4294967296\n"
			  "# HELP pypool_worst_loop_stall_seconds Longest turn of the event loop since the start.\n"
			  "# TYPE pypool_worst_loop_stall_seconds gauge\n"
			  "pypool_worst_loop_stall_seconds 0.0025\n"
			  "# HELP pypool_log_lines_dropped_total Log lines that were not written: too many, or the "
			  "sink was "
			  "full.\n"
			  "# TYPE pypool_log_lines_dropped_total counter\n"
			  "pypool_log_lines_dropped_total 7\n");
	}
END_TEST

START_TEST(openmetrics_names_families_and_has_an_end)
	{
		ck_prints(true, "{\"version\": \"1.2.3\", \"log_dropped\": 7}", "[]",
			  "# HELP pypool_build Version of pypoold.\n"
			  "# TYPE pypool_build info\n"
			  "pypool_build_info{version=\"1.2.3\"} 1\n"
			  "# HELP pypool_log_lines_dropped Log lines that were not written: too many, or the sink was "
			  "full.\n"
			  "# TYPE pypool_log_lines_dropped counter\n"
			  "pypool_log_lines_dropped_total 7\n"
			  "# EOF\n");
	}
END_TEST

START_TEST(samples_of_a_metric_stand_together)
	{
		ck_prints(
			false, "{}",
			"[{\"name\": \"a\", \"generation\": 1, \"accepted\": 2}, {\"name\": \"b\", \"generation\": 3, "
			"\"accepted\": 4}]",
			"# HELP pypool_pool_generation Which code and configuration the pool has: one more with each "
			"reload.\n"
			"# TYPE pypool_pool_generation gauge\n"
			"pypool_pool_generation{pool=\"a\"} 1\n"
			"pypool_pool_generation{pool=\"b\"} 3\n"
			"# HELP pypool_calls_accepted_total Calls that were taken.\n"
			"# TYPE pypool_calls_accepted_total counter\n"
			"pypool_calls_accepted_total{pool=\"a\"} 2\n"
			"pypool_calls_accepted_total{pool=\"b\"} 4\n");
	}
END_TEST

START_TEST(label_values_are_escaped)
	{
		ck_samples("{\"version\": \"\\\"\\\\\\n\\u001b[2J\\u00e9\"}", "[]",
			   "pypool_build_info{version=\"\\\"\\\\\\n\\\\x1b[2J\xc3\xa9\"} 1\n");
		ck_samples("{\"version\": {\"$str\": \"Yf9i\"}}", "[]", "pypool_build_info{version=\"a\\\\xffb\"} 1\n");
		ck_samples("{}", "[{\"name\": \"a\\\"b\", \"generation\": 1}]",
			   "pypool_pool_generation{pool=\"a\\\"b\"} 1\n");
	}
END_TEST

static const char *const scaled[][2] = {
	{ "0", "0" },
	{ "1", "0.000001" },
	{ "100", "0.0001" },
	{ "999999", "0.999999" },
	{ "1000000", "1" },
	{ "1050000", "1.05" },
	{ "18446744073709551615", "18446744073709.551615" },
};

START_TEST(numbers_are_exact)
	{
		char json[64], expected[64];

		(void)snprintf(json, sizeof(json), "{\"worst_stall_us\": %s}", scaled[_i][0]);
		(void)snprintf(expected, sizeof(expected), "pypool_worst_loop_stall_seconds %s\n", scaled[_i][1]);
		ck_samples(json, "[]", expected);
	}
END_TEST

START_TEST(histograms_are_cumulative_and_end_with_infinity)
	{
		ck_samples("{}",
			   "[{\"name\": \"p\", \"run\": {\"count\": 4, \"sum_us\": 61500000, \"buckets\": [[100, 0], "
			   "[500000, 1], "
			   "[1000000, 3]]}}]",
			   "pypool_call_run_seconds_bucket{pool=\"p\",le=\"0.0001\"} 0\n"
			   "pypool_call_run_seconds_bucket{pool=\"p\",le=\"0.5\"} 1\n"
			   "pypool_call_run_seconds_bucket{pool=\"p\",le=\"1.0\"} 3\n"
			   "pypool_call_run_seconds_bucket{pool=\"p\",le=\"+Inf\"} 4\n"
			   "pypool_call_run_seconds_sum{pool=\"p\"} 61.5\n"
			   "pypool_call_run_seconds_count{pool=\"p\"} 4\n");
	}
END_TEST

START_TEST(phases_of_one_name_are_added)
	{
		ck_samples("{}",
			   "[{\"name\": \"p\", \"init\": [{\"phase\": \"exec\", \"ms\": 1.5}, {\"phase\": \"imports\", "
			   "\"ms\": 80, "
			   "\"module\": \"a\"}, {\"phase\": \"imports\", \"ms\": 20.25, \"module\": \"b\"}], "
			   "\"template\": {\"init\": [{\"phase\": \"exec\", \"ms\": 2}]}}]",
			   "pypool_worker_init_seconds{pool=\"p\",phase=\"exec\"} 0.001500\n"
			   "pypool_worker_init_seconds{pool=\"p\",phase=\"imports\"} 0.100250\n"
			   "pypool_template_init_seconds{pool=\"p\",phase=\"exec\"} 0.002000\n");
	}
END_TEST

START_TEST(keys_states_and_maps_become_labels)
	{
		ck_samples("{}",
			   "[{\"name\": \"p\", \"idle\": 2, \"busy\": 1, \"deaths\": {\"crashed\": 2, \"oom\": 1}, "
			   "\"completed\": 5, "
			   "\"failed\": 6, \"breaker\": {\"state\": \"half-open\", \"opened\": 1}}]",
			   "pypool_workers{pool=\"p\",state=\"idle\"} 2\n"
			   "pypool_workers{pool=\"p\",state=\"busy\"} 1\n"
			   "pypool_worker_deaths_total{pool=\"p\",reason=\"crashed\"} 2\n"
			   "pypool_worker_deaths_total{pool=\"p\",reason=\"oom\"} 1\n"
			   "pypool_calls_ended_total{pool=\"p\",outcome=\"completed\"} 5\n"
			   "pypool_calls_ended_total{pool=\"p\",outcome=\"failed\"} 6\n"
			   "pypool_breaker_state{pool=\"p\",state=\"closed\"} 0\n"
			   "pypool_breaker_state{pool=\"p\",state=\"open\"} 0\n"
			   "pypool_breaker_state{pool=\"p\",state=\"half-open\"} 1\n"
			   "pypool_breaker_opened_total{pool=\"p\"} 1\n");
	}
END_TEST

/* Of a daemon that is older, or newer. */
START_TEST(what_is_not_as_expected_is_left_out)
	{
		ck_prints(false, "{}", "[]", "");
		ck_prints(false, "null", "null", "");
		ck_prints(false, "{\"version\": 5, \"clients\": \"many\", \"state\": null}", "[5, {\"generation\": 1}]",
			  "");
		ck_prints(false, "{}",
			  "[{\"name\": \"p\", \"idle\": null, \"deaths\": 5, \"wait\": {\"count\": 1}, \"init\": [{}, "
			  "5], "
			  "\"template\": null}]",
			  "");
		ck_samples("{}", "[{\"name\": \"p\", \"wait\": {\"count\": 1, \"sum_us\": 5, \"buckets\": [[1], 5]}}]",
			   "pypool_call_wait_seconds_bucket{pool=\"p\",le=\"+Inf\"} 1\n"
			   "pypool_call_wait_seconds_sum{pool=\"p\"} 0.000005\n"
			   "pypool_call_wait_seconds_count{pool=\"p\"} 1\n");
		ck_prints(true, "{}", "[]", "# EOF\n");
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("ctl_metrics");
	TCase *t = tcase_create("metrics");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, what_is_told_of_the_daemon);
	tcase_add_test(t, openmetrics_names_families_and_has_an_end);
	tcase_add_test(t, samples_of_a_metric_stand_together);
	tcase_add_test(t, label_values_are_escaped);
	tcase_add_loop_test(t, numbers_are_exact, 0, sizeof(scaled) / sizeof(scaled[0]));
	tcase_add_test(t, histograms_are_cumulative_and_end_with_infinity);
	tcase_add_test(t, phases_of_one_name_are_added);
	tcase_add_test(t, keys_states_and_maps_become_labels);
	tcase_add_test(t, what_is_not_as_expected_is_left_out);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
