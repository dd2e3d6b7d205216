/* The vectors of tests/vectors as the daemon reads them; test_vectors.py reads the same files with another codec. */
#include "tests/support/vectors.h"

#include <check.h>

#include "proto/frame.h"
#include "proto/methods.h"

#define MAX_FRAME ((64u << 20) + (64u << 10))

/* The first word of a vector's name. */
static struct span first_word(const struct vector *v)
{
	return (struct span){ .p = (const uint8_t *)v->what, .len = strcspn(v->what, " ") };
}

static bool ends_with(const struct vector *v, const char *end)
{
	size_t n = strlen(v->what), m = strlen(end);

	return n >= m && strcmp(v->what + n - m, end) == 0;
}

/* The only message in v, found in the framing that its first byte names. */
static struct envelope read_message(const struct vector *v, enum frame_mode mode)
{
	struct complaint c = { .message = "" };
	struct frame_reader r;
	struct envelope e;
	struct frame f = { .taken = 0 };

	frame_reader_init(&r, FRAME_UNKNOWN, MAX_FRAME);
	ck_assert_msg(frame_next(&r, v->bytes, v->len, &f) == FRAME_READY, "%s: no frame", v->what);
	ck_assert_msg(f.taken == v->len, "%s: taken %zu of %zu", v->what, f.taken, v->len);
	ck_assert_msg(r.mode == mode, "%s: the other framing", v->what);
	frame_reader_deinit(&r);
	ck_assert_msg(envelope_parse(f.body, &e, &c), "%s: %s", v->what, c.message);
	return e;
}

static enum frame_mode mode_of(const struct vector *v)
{
	return ends_with(v, " prefixed") ? FRAME_PREFIXED : FRAME_BARE;
}

static void check_method(const struct vector *v)
{
	enum method m = method_find(first_word(v));
	struct envelope e = read_message(v, mode_of(v));
	struct complaint c = { .message = "" };
	struct params p;

	ck_assert_msg(m != METHOD_N, "%s: no such method", v->what);
	ck_assert(e.has_id);
	if (strstr(v->what, " response ")) {
		ck_assert_msg(e.type == ENVELOPE_RESPONSE && mp_read_nil(&e.error), "%s: no response", v->what);
		return;
	}
	ck_assert_msg(e.type == ENVELOPE_REQUEST && method_find(e.method) == m, "%s: no request", v->what);
	ck_assert_msg(params_parse(e.params, method_info(m)->keys, method_info(m)->name, &p, &c), "%s: %s", v->what,
		      c.message);
}

START_TEST(a_request_and_a_response_of_every_method_are_read)
	{
		unsigned requests[METHOD_N][2] = { 0 }, responses[METHOD_N][2] = { 0 };
		struct vectors file;
		struct vector v;
		int r;

		ck_assert(vectors_open(&file, "methods"));
		while ((r = vectors_next(&file, &v)) == 1) {
			unsigned(*seen)[2] = strstr(v.what, " response ") ? responses : requests;

			check_method(&v);
			seen[method_find(first_word(&v))][mode_of(&v) == FRAME_PREFIXED]++;
		}
		vectors_close(&file);
		ck_assert_int_eq(r, 0);
		for (int m = 0; m < METHOD_N; m++)
			ck_assert_msg(requests[m][0] && requests[m][1] && responses[m][0] && responses[m][1], "%s",
				      method_info(m)->name);
	}
END_TEST

/* The code that an error value names: a string that begins with it, or a map. */
static enum error_code read_code(struct span error)
{
	struct span text, key;
	uint32_t n;

	if (mp_read_text(&error, &text))
		return error_find(text.p, (size_t)((const uint8_t *)memchr(text.p, ':', text.len) - text.p));
	ck_assert(mp_read_map(&error, &n) && n >= 3);
	ck_assert(mp_read_text(&error, &key) && span_equals(key, "code"));
	ck_assert(mp_read_text(&error, &text));
	return error_find(text.p, text.len);
}

START_TEST(every_error_code_is_read_in_both_shapes)
	{
		unsigned seen[ERROR_N][2][2] = { 0 };
		struct vectors file;
		struct vector v;
		int r;

		ck_assert(vectors_open(&file, "errors"));
		while ((r = vectors_next(&file, &v)) == 1) {
			struct envelope e = read_message(&v, mode_of(&v));
			struct span word = first_word(&v);
			enum error_code code = error_find(word.p, word.len);
			bool is_map = strstr(v.what, " map ");

			ck_assert_msg(code != ERROR_NONE && read_code(e.error) == code, "%s", v.what);
			ck_assert_str_eq(mp_type_name(e.error), is_map ? "map" : "str");
			ck_assert(e.type == ENVELOPE_RESPONSE && mp_read_nil(&e.result));
			seen[code][is_map][mode_of(&v) == FRAME_PREFIXED]++;
		}
		vectors_close(&file);
		ck_assert_int_eq(r, 0);
		for (int code = 1; code < ERROR_N; code++)
			ck_assert_msg(seen[code][0][0] && seen[code][0][1] && seen[code][1][0] && seen[code][1][1],
				      "%s", error_name(code));
	}
END_TEST

START_TEST(every_notification_is_read)
	{
		struct vectors file;
		struct vector v;
		unsigned n = 0;
		int r;

		ck_assert(vectors_open(&file, "news"));
		while ((r = vectors_next(&file, &v)) == 1) {
			struct envelope e = read_message(&v, mode_of(&v));
			struct span word = first_word(&v);

			ck_assert_msg(e.type == ENVELOPE_NOTIFICATION && word.len == e.method.len &&
					      memcmp(word.p, e.method.p, word.len) == 0,
				      "%s", v.what);
			n++;
		}
		vectors_close(&file);
		ck_assert_int_eq(r, 0);
		ck_assert_uint_ge(n, 2);
	}
END_TEST

static const char *judge_message(struct span body)
{
	struct complaint c;
	struct envelope e;
	struct params p;
	enum method m;

	if (!envelope_parse(body, &e, &c))
		return error_name(c.code);
	m = method_find(e.method);
	if (m == METHOD_N)
		return "unknown_method";
	return params_parse(e.params, method_info(m)->keys, method_info(m)->name, &p, &c) ? "accepted"
											  : error_name(c.code);
}

/* What becomes of v on a new connection. */
static const char *judge(const struct vector *v)
{
	struct frame_reader r;
	struct frame f = { .taken = 0 };
	enum frame_status status;

	frame_reader_init(&r, FRAME_UNKNOWN, MAX_FRAME);
	status = frame_next(&r, v->bytes, v->len, &f);
	frame_reader_deinit(&r);
	switch (status) {
	case FRAME_READY:
		return judge_message(f.body);
	case FRAME_MORE:
		return "more";
	case FRAME_FOREIGN:
		return "foreign";
	case FRAME_EMPTY:
		return "bad_frame";
	case FRAME_TOO_LARGE:
		return "too_large";
	case FRAME_BAD:
		return "bad_msgpack";
	case FRAME_NO_MEMORY:
		break;
	}
	return "no memory";
}

START_TEST(fault_1_2_6_7_8_10_11_13_14_15_what_is_refused_is_refused_as_the_vector_says)
	{
		struct vectors file;
		struct vector v;
		unsigned n = 0;
		int r;

		ck_assert(vectors_open(&file, "refused"));
		while ((r = vectors_next(&file, &v)) == 1) {
			const char *outcome = judge(&v);

			ck_assert_msg(span_equals(first_word(&v), outcome), "%s: %s", v.what, outcome);
			n++;
		}
		vectors_close(&file);
		ck_assert_int_eq(r, 0);
		ck_assert_uint_gt(n, 40);
	}
END_TEST

START_TEST(other_forms_of_a_message_are_accepted)
	{
		struct vectors file;
		struct vector v;
		unsigned n = 0;
		int r;

		ck_assert(vectors_open(&file, "accepted"));
		while ((r = vectors_next(&file, &v)) == 1) {
			struct envelope e = read_message(&v, FRAME_BARE);

			if (e.type == ENVELOPE_REQUEST)
				ck_assert_msg(strcmp(judge(&v), "accepted") == 0, "%s", v.what);
			n++;
		}
		vectors_close(&file);
		ck_assert_int_eq(r, 0);
		ck_assert_uint_gt(n, 10);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("vectors");
	TCase *t = tcase_create("vectors");

	suite_add_tcase(s, t);
	tcase_add_test(t, a_request_and_a_response_of_every_method_are_read);
	tcase_add_test(t, every_error_code_is_read_in_both_shapes);
	tcase_add_test(t, every_notification_is_read);
	tcase_add_test(t, fault_1_2_6_7_8_10_11_13_14_15_what_is_refused_is_refused_as_the_vector_says);
	tcase_add_test(t, other_forms_of_a_message_are_accepted);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
