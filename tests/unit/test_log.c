#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"

/* Every test runs in a process of its own (check forks), so that fds 1 and 2 may be replaced: both are the sink. */
struct sink {
	int reader;
	char got[1 << 20];
};

static void sink_init(struct sink *sink, int reader, int writer)
{
	sink->reader = reader;
	ck_assert_int_eq(dup2(writer, STDERR_FILENO), STDERR_FILENO);
	ck_assert_int_eq(dup2(writer, STDOUT_FILENO), STDOUT_FILENO);
	close(writer);
}

static void sink_pipe(struct sink *sink)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	sink_init(sink, fds[0], fds[1]);
}

/* All that the sink has now. */
static const char *sink_read(struct sink *sink)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(sink->reader, sink->got + len, sizeof(sink->got) - 1 - len)) > 0)
		len += (size_t)n;
	sink->got[len] = '\0';
	return sink->got;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
		n++;
	return n;
}

/* The line without its time. */
static const char *after_time(const char *line)
{
	ck_assert_msg(strlen(line) > 25 && line[10] == 'T' && line[19] == '.' && line[23] == 'Z', "no time: %s", line);
	return line + 25;
}

static struct sink the_sink;

START_TEST(log_text_is_one_line_of_time_level_event_and_fields)
{
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "worker.exit", KV("pool", "default"), KV("worker", 3), KV("how", "signal 9"));
	ck_assert_str_eq(after_time(sink_read(&the_sink)), "info worker.exit pool=default worker=3 how=\"signal 9\"\n");
	log_close();
}
END_TEST

START_TEST(log_below_the_level_writes_nothing)
{
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_WARN);
	LOG(INFO, "x");
	LOG(DEBUG, "x");
	ck_assert_str_eq(sink_read(&the_sink), "");
	LOG(WARN, "x");
	ck_assert_str_eq(after_time(sink_read(&the_sink)), "warning x\n");
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	LOG(DEBUG, "x");
	ck_assert_str_eq(after_time(sink_read(&the_sink)), "debug x\n");
	log_close();
}
END_TEST

START_TEST(log_writes_numbers_at_their_limits)
{
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x", KV("a", UINT64_MAX), KV("b", INT64_MIN), KV("c", true), KV("d", -1));
	ck_assert_str_eq(after_time(sink_read(&the_sink)),
			 "info x a=18446744073709551615 b=-9223372036854775808 c=1 d=-1\n");
	log_close();
}
END_TEST

START_TEST(log_writes_a_missing_text_as_a_dash_and_an_empty_one_as_quotes)
{
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x", KV("a", (const char *)NULL), KV("b", ""), KV_BYTES("c", NULL, 0));
	ck_assert_str_eq(after_time(sink_read(&the_sink)), "info x a=- b=\"\" c=\"\"\n");
	log_close();
}
END_TEST

START_TEST(log_leaves_out_a_field_that_is_there_only_if_it_has_a_value)
{
	const char *none = NULL;

	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x", KV_IF_ANY("a", none), KV_IF_ANY("b", ""), KV_IF_ANY("c", "d e"), KV("f", 1));
	ck_assert_str_eq(after_time(sink_read(&the_sink)), "info x c=\"d e\" f=1\n");
	log_open(LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	LOG(INFO, "x", KV_IF_ANY("a", none), KV_IF_ANY("c", "d"));
	ck_assert_ptr_nonnull(strstr(sink_read(&the_sink), "\"event\":\"x\",\"c\":\"d\"}"));
	log_close();
}
END_TEST

START_TEST(fault_119_newline_and_ansi_in_log_data_stay_one_plain_line)
{
	static const char data[] = "a\nb\r\x1b[31m\0\x7f\xc2\x9b\xff\xc3(\xc3\xa9\xe2\x80\xae\"\\=\xed\xa0\x80";

	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x", KV_BYTES("v", data, sizeof(data) - 1));
	ck_assert_str_eq(after_time(sink_read(&the_sink)),
			 "info x v=\"a\\nb\\x0d\\x1b[31m\\x00\\x7f\\xc2\\x9b\\xff\\xc3(\xc3\xa9\\xe2\\x80\\xae\\\"\\\\="
			 "\\xed\\xa0\\x80\"\n");
	log_close();
}
END_TEST

START_TEST(json_is_alone_on_stdout)
{
	int out[2];

	sink_pipe(&the_sink);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(dup2(out[1], STDOUT_FILENO), STDOUT_FILENO);
	log_open(LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	ck_assert_str_eq(sink_read(&the_sink), "");
	the_sink.reader = out[0];
	ck_assert_ptr_nonnull(strstr(sink_read(&the_sink), "\"event\":\"x\"}"));
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	ck_assert_str_eq(sink_read(&the_sink), "");
	log_close();
}
END_TEST

START_TEST(fault_119_json_escapes_what_json_must_escape)
{
	static const char data[] = "a\nb\x1b\xff\"\\\xc3\xa9";

	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	LOG(INFO, "x.y", KV_BYTES("v", data, sizeof(data) - 1), KV("n", 7));
	ck_assert_str_eq(sink_read(&the_sink) + strlen("{\"time\":\"2026-11-24T13:00:00.123Z\","),
			 "\"level\":\"info\",\"event\":\"x.y\",\"v\":\"a\\nb\\\\x1b\\\\xff\\\"\\\\\xc3\xa9\","
			 "\"n\":7}\n");
	log_close();
}
END_TEST

/* Each length around the limit, and some others: the line is whole, under PIPE_BUF, and says that it was cut if it was.
 * width: of `fill` in the line. */
static void check_long_lines(enum log_format format, const char *end, const char *mark, char fill, size_t width)
{
	char value[5000];
	size_t whole = 0, cut = 0; /* the longest, the shortest */

	sink_pipe(&the_sink);
	log_open(format, LOG_LEVEL_DEBUG);
	memset(value, fill, sizeof(value));
	for (size_t n = 1; n <= sizeof(value); n += n * width + 400 > PIPE_BUF && n * width < PIPE_BUF ? 1 : 50) {
		const char *line;
		size_t len;

		LOG(DEBUG, "x", KV_BYTES("value", value, n), KV("next", 1), KV("text", "a b"));
		line = sink_read(&the_sink);
		len = strlen(line);
		ck_assert_uint_lt(len, PIPE_BUF);
		ck_assert_uint_eq(count(line, "\n"), 1);
		ck_assert_str_eq(line + len - strlen(end), end);
		ck_assert(strstr(line, mark) || strstr(line, "next"));
		ck_assert(n < 4096 || strstr(line, mark));
		if (!strstr(line, mark))
			whole = n;
		else if (!cut)
			cut = n;
	}
	ck_assert_uint_le(cut, whole + 1); /* no length between them was left out */
	log_close();
}

START_TEST(log_text_line_is_cut_below_pipe_buf_and_says_so)
{
	check_long_lines(LOG_FORMAT_TEXT, "\n", " cut=true\n", 'v', 1);
	check_long_lines(LOG_FORMAT_TEXT, "\n", "\" cut=true\n", '\x01', 4);
}
END_TEST

START_TEST(log_json_line_is_cut_below_pipe_buf_and_stays_json)
{
	check_long_lines(LOG_FORMAT_JSON, "}\n", "\",\"cut\":true}\n", 'v', 1);
	check_long_lines(LOG_FORMAT_JSON, "}\n", "\",\"cut\":true}\n", '"', 2);
}
END_TEST

START_TEST(fault_118_full_pipe_drops_whole_lines_and_says_how_many)
{
	const char *got;
	unsigned lines;
	uint64_t dropped;

	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	ck_assert(!(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK)); /* others share this description */
	for (unsigned i = 0; i < 5000; i++)
		LOG(DEBUG, "fill", KV("i", i), KV("text", "some text to fill the pipe with"));
	dropped = log_dropped();
	ck_assert_uint_gt(dropped, 0);
	got = sink_read(&the_sink);
	lines = count(got, "\n");
	ck_assert_uint_eq(lines, count(got, "debug fill i="));
	ck_assert_uint_eq(lines + dropped, 5000);
	ck_assert_int_eq(got[strlen(got) - 1], '\n');
	LOG(DEBUG, "after");
	got = sink_read(&the_sink);
	ck_assert_str_eq(strchr(got, '\n') + 1 + 25, "debug after\n");
	ck_assert_ptr_eq(strstr(got, "warning log.dropped n="), got + 25);
	ck_assert_uint_eq(strtoul(strstr(got, "n=") + 2, NULL, 10), dropped);
	LOG(DEBUG, "later");
	ck_assert_uint_eq(count(sink_read(&the_sink), "\n"), 1);
	log_close();
}
END_TEST

START_TEST(fault_118_full_disk_drops_and_counts)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	sink_init(&the_sink, -1, fd);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	LOG(INFO, "x");
	ck_assert_uint_eq(log_dropped(), 2);
	log_close();
}
END_TEST

START_TEST(fault_118_reader_that_went_away_costs_records_only)
{
	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	close(the_sink.reader);
	LOG(INFO, "x");
	ck_assert_uint_eq(log_dropped(), 1);
	log_close();
}
END_TEST

START_TEST(fault_118_closed_stderr_is_not_tried_for_ever_after_an_interrupted_call)
{
	close(STDERR_FILENO);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	errno = EINTR;
	LOG(INFO, "x");
	ck_assert_uint_eq(log_dropped(), 1);
	log_close();
}
END_TEST

START_TEST(log_to_a_socket_neither_blocks_nor_raises_sigpipe)
{
	const char *got;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	sink_init(&the_sink, fds[0], fds[1]);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	for (unsigned i = 0; i < 20000; i++)
		LOG(DEBUG, "fill", KV("i", i));
	ck_assert_uint_gt(log_dropped(), 0);
	(void)sink_read(&the_sink);
	LOG(DEBUG, "after");
	got = sink_read(&the_sink);
	ck_assert_uint_eq(count(got, "log.dropped"), 1);
	close(the_sink.reader);
	LOG(DEBUG, "nobody");
	log_close();
}
END_TEST

START_TEST(log_appends_to_a_file_that_others_write_too)
{
	char path[] = "/tmp/pypool-log-XXXXXX", got[256];
	int fd = mkstemp(path);
	ssize_t n;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(write(fd, "before\n", 7), 7);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	n = pread(fd, got, sizeof(got) - 1, 0);
	ck_assert_int_gt(n, 7);
	got[n] = '\0';
	ck_assert_mem_eq(got, "before\n", 7);
	ck_assert_str_eq(after_time(got + 7), "info x\n");
	log_close();
}
END_TEST

START_TEST(fault_120_error_flood_is_limited_per_event_and_summed_up)
{
	const char *got;
	uint64_t limited;

	sink_pipe(&the_sink);
	ck_assert_int_gt(fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20), 0);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	for (unsigned i = 0; i < 5000; i++)
		LOG(INFO, "flood");
	LOG(INFO, "other");
	limited = log_limited();
	/* a second may begin while this runs, but not two */
	ck_assert_uint_ge(limited, 3000);
	ck_assert_uint_le(limited, 4000);
	log_close();
	got = sink_read(&the_sink);
	ck_assert_uint_eq(count(got, "info flood\n"), 5000 - limited);
	ck_assert_uint_eq(count(got, "info other\n"), 1);
	ck_assert_uint_ge(count(got, "warning log.limited event=flood n="), 1);
	ck_assert_uint_eq(log_dropped(), 0);
}
END_TEST

START_TEST(log_counts_records_that_could_not_be_made)
{
	const char *got;

	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_WARN);
	log_skip(LOG_LEVEL_INFO, "chatter", 7); /* nobody would have read them */
	ck_assert_uint_eq(log_limited(), 0);
	log_skip(LOG_LEVEL_WARN, "flood", 5);
	ck_assert_uint_eq(log_limited(), 5);
	LOG(WARN, "flood");
	log_close();
	got = sink_read(&the_sink);
	ck_assert_uint_eq(count(got, "warning flood\n"), 1);
	ck_assert_uint_eq(count(got, "warning log.limited event=flood n=5\n"), 1);
}
END_TEST

START_TEST(log_of_debug_is_not_limited)
{
	sink_pipe(&the_sink);
	ck_assert_int_gt(fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20), 0);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	for (unsigned i = 0; i < 3000; i++)
		LOG(DEBUG, "flood");
	ck_assert_uint_eq(log_limited(), 0);
	log_close();
}
END_TEST

START_TEST(log_bug_is_logged_and_counted)
{
	sink_pipe(&the_sink);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	LOG_BUG("two and two is five");
	ck_assert_uint_eq(log_bugs(), 1);
	ck_assert_ptr_nonnull(strstr(sink_read(&the_sink), "error BUG what=\"two and two is five\" file="));
	log_close();
}
END_TEST

static int journal_listen(char *path, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char dir[] = "/tmp/pypool-journal-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_lt(snprintf(path, size, "%s/socket", dir), (int)sizeof(sa.sun_path));
	memcpy(sa.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void journal_remove(char *path)
{
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

/* Makes JOURNAL_STREAM name what fd 2 is. */
static void journal_stream_is_stderr(void)
{
	char text[64];
	struct stat st;

	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", text, 1);
}

START_TEST(log_speaks_to_the_journal_when_stderr_is_its_stream)
{
	char path[108], got[8192];
	int fd = journal_listen(path, sizeof(path));
	ssize_t n;

	sink_pipe(&the_sink);
	journal_stream_is_stderr();
	log_set_journal_socket(path);
	log_open(LOG_FORMAT_AUTO, LOG_LEVEL_INFO);
	LOG(WARN, "worker.exit", KV("pool", "a b"), KV("ms", 3), KV("text", "x\ny"), KV_IF_ANY("absent", ""));
	n = read(fd, got, sizeof(got) - 1);
	ck_assert_int_gt(n, 0);
	got[n] = '\0';
	ck_assert_str_eq(got, "SYSLOG_IDENTIFIER=pypoold\nPRIORITY=4\n"
			      "MESSAGE=worker.exit pool=\"a b\" ms=3 text=\"x\\ny\"\nPYPOOL_EVENT=worker.exit\n"
			      "PYPOOL_POOL=a b\nPYPOOL_MS=3\nPYPOOL_TEXT=x\\x0ay\n");
	ck_assert_str_eq(sink_read(&the_sink), "");
	log_close();
	journal_remove(path);
}
END_TEST

START_TEST(log_keeps_to_stderr_when_the_journal_stream_is_another_or_a_form_is_asked_for)
{
	sink_pipe(&the_sink);
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_open(LOG_FORMAT_AUTO, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	ck_assert_uint_eq(count(sink_read(&the_sink), "info x\n"), 1);
	journal_stream_is_stderr();
	log_open(LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	LOG(INFO, "x");
	ck_assert_uint_eq(count(sink_read(&the_sink), "\"event\":\"x\"}\n"), 1);
	log_close();
}
END_TEST

START_TEST(fault_118_full_or_absent_journal_drops_and_counts)
{
	char path[108], got[8192];
	int fd = journal_listen(path, sizeof(path));
	ssize_t n;

	sink_pipe(&the_sink);
	journal_stream_is_stderr();
	log_set_journal_socket(path);
	log_open(LOG_FORMAT_AUTO, LOG_LEVEL_DEBUG);
	for (unsigned i = 0; i < 2000; i++)
		LOG(DEBUG, "fill");
	ck_assert_uint_gt(log_dropped(), 0);
	while (read(fd, got, sizeof(got)) > 0)
		;
	LOG(DEBUG, "after");
	n = read(fd, got, sizeof(got) - 1);
	ck_assert_int_gt(n, 0);
	got[n] = '\0';
	ck_assert_ptr_nonnull(strstr(got, "MESSAGE=log.dropped n="));
	close(fd);
	journal_remove(path);
	LOG(DEBUG, "nobody");
	log_close();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");
	SRunner *r;
	int failed;

	tcase_add_test(t, log_text_is_one_line_of_time_level_event_and_fields);
	tcase_add_test(t, log_below_the_level_writes_nothing);
	tcase_add_test(t, log_writes_numbers_at_their_limits);
	tcase_add_test(t, log_writes_a_missing_text_as_a_dash_and_an_empty_one_as_quotes);
	tcase_add_test(t, log_leaves_out_a_field_that_is_there_only_if_it_has_a_value);
	tcase_add_test(t, fault_119_newline_and_ansi_in_log_data_stay_one_plain_line);
	tcase_add_test(t, json_is_alone_on_stdout);
	tcase_add_test(t, fault_119_json_escapes_what_json_must_escape);
	tcase_add_test(t, log_text_line_is_cut_below_pipe_buf_and_says_so);
	tcase_add_test(t, log_json_line_is_cut_below_pipe_buf_and_stays_json);
	tcase_add_test(t, fault_118_full_pipe_drops_whole_lines_and_says_how_many);
	tcase_add_test(t, fault_118_full_disk_drops_and_counts);
	tcase_add_test(t, fault_118_reader_that_went_away_costs_records_only);
	tcase_add_test(t, fault_118_closed_stderr_is_not_tried_for_ever_after_an_interrupted_call);
	tcase_add_test(t, log_to_a_socket_neither_blocks_nor_raises_sigpipe);
	tcase_add_test(t, log_appends_to_a_file_that_others_write_too);
	tcase_add_test(t, fault_120_error_flood_is_limited_per_event_and_summed_up);
	tcase_add_test(t, log_counts_records_that_could_not_be_made);
	tcase_add_test(t, log_of_debug_is_not_limited);
	tcase_add_test(t, log_bug_is_logged_and_counted);
	tcase_add_test(t, log_speaks_to_the_journal_when_stderr_is_its_stream);
	tcase_add_test(t, log_keeps_to_stderr_when_the_journal_stream_is_another_or_a_form_is_asked_for);
	tcase_add_test(t, fault_118_full_or_absent_journal_drops_and_counts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_set_fork_status(r, CK_FORK); /* whatever the environment says: fd 2 is replaced */
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
