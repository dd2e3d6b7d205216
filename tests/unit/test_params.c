#include "proto/methods.h"

#include <check.h>
#include <msgpack.h>
#include <stdlib.h>

#include "proto/pack.h"

#define ALL (PARAM_BIT(PARAM_N) - 1)
#define MS_RULE "timeout_ms must be an integer from 1 to 2147483648 (milliseconds), got "

struct map {
	msgpack_sbuffer buf; /* owns */
	msgpack_packer pk;
};

static void map_start(struct map *m, size_t pairs)
{
	msgpack_sbuffer_init(&m->buf);
	msgpack_packer_init(&m->pk, &m->buf, msgpack_sbuffer_write);
	msgpack_pack_map(&m->pk, pairs);
}

static struct span map_span(const struct map *m)
{
	struct span s = { .p = (const uint8_t *)m->buf.data, .len = m->buf.size };

	ck_assert_int_eq(cursor_check(s), CURSOR_DONE);
	return s;
}

static void check_refused(struct map *m, uint64_t accepted, const char *message)
{
	struct complaint c = { .message = "" };
	struct params p;

	ck_assert(!params_parse(map_span(m), accepted, "execute", &p, &c));
	ck_assert_int_eq(c.code, ERROR_BAD_REQUEST);
	ck_assert_str_eq(c.message, message);
	msgpack_sbuffer_destroy(&m->buf);
}

START_TEST(an_absent_map_is_an_empty_one)
	{
		struct complaint c;
		struct params p;

		ck_assert(params_parse((struct span){ NULL, 0 }, 0, "ping", &p, &c));
		ck_assert_uint_eq(p.has, 0);
		ck_assert(params_parse(SPAN_LIT("\x80"), 0, "ping", &p, &c));
		ck_assert_uint_eq(p.has, 0);
	}
END_TEST

START_TEST(every_kind_is_read_in_place)
	{
		struct complaint c = { .message = "" };
		struct params p;
		struct map m;

		map_start(&m, 6);
		pack_kv_text(&m.pk, "target", "app.work");
		pack_text(&m.pk, "args");
		msgpack_pack_array(&m.pk, 2);
		msgpack_pack_double(&m.pk, 1.5);
		msgpack_pack_map(&m.pk, 0);
		pack_kv_uint(&m.pk, "timeout_ms", 1500);
		pack_kv_uint(&m.pk, "lease", UINT64_MAX);
		pack_kv_bool(&m.pk, "meta", true);
		pack_text(&m.pk, "features");
		msgpack_pack_array(&m.pk, 0);
		ck_assert_msg(params_parse(map_span(&m), ALL, "x", &p, &c), "%s", c.message);
		ck_assert_uint_eq(p.has, PARAM_BIT(PARAM_TARGET) | PARAM_BIT(PARAM_ARGS) | PARAM_BIT(PARAM_TIMEOUT_MS) |
						 PARAM_BIT(PARAM_LEASE) | PARAM_BIT(PARAM_META) |
						 PARAM_BIT(PARAM_FEATURES));
		ck_assert(span_equals(p.target, "app.work"));
		ck_assert(p.args.len == 11 && p.args.p[0] == 0x92);
		ck_assert(p.timeout_ms == 1500 && p.lease == UINT64_MAX && p.meta);
		ck_assert(p.features.len == 1 && params_has(&p, PARAM_ARGS) && !params_has(&p, PARAM_POOL));
		msgpack_sbuffer_destroy(&m.buf);
	}
END_TEST

START_TEST(every_key_of_the_table_is_known)
	{
		static const char *const names[] = {
#define X(UPPER, field, kind) #field,
			PROTO_PARAMS(X)
#undef X
		};
		struct complaint c = { .message = "" };
		struct params p;
		struct map m;

		map_start(&m, PARAM_N);
		for (int i = 0; i < PARAM_N; i++) {
			pack_text(&m.pk, names[i]);
			msgpack_pack_nil(&m.pk);
		}
		ck_assert_msg(params_parse(map_span(&m), ALL, "x", &p, &c), "%s", c.message);
		ck_assert_uint_eq(p.has, PARAM_BIT(PARAM_ARGS) | PARAM_BIT(PARAM_TYPE) |
						 PARAM_BIT(PARAM_VALUES)); /* nil is a value where any is */
		msgpack_sbuffer_destroy(&m.buf);
	}
END_TEST

START_TEST(keys_and_names_may_be_bin)
	{
		struct complaint c;
		struct params p;

		ck_assert(params_parse(SPAN_LIT("\x81\xc4\x04pool\xc4\x01p"), ALL, "x", &p, &c));
		ck_assert(span_equals(p.pool, "p"));
	}
END_TEST

START_TEST(fault_11_an_unknown_key_names_what_is_accepted)
	{
		struct map m;

		map_start(&m, 1);
		pack_kv_uint(&m.pk, "tiemout_ms\x1b", 5);
		check_refused(&m, method_info(METHOD_execute)->keys,
			      "execute takes no key \"tiemout_ms\\x1b\"; accepted: target args pool session lease "
			      "timeout_ms queue_timeout_ms meta traceparent idempotent open");
	}
END_TEST

START_TEST(fault_11_a_key_of_another_method_is_refused)
	{
		struct map m;

		map_start(&m, 1);
		pack_kv_text(&m.pk, "target", "x");
		check_refused(&m, 0, "execute takes no params, got the key \"target\"");
	}
END_TEST

START_TEST(fault_11_a_key_that_is_no_text_is_refused)
	{
		struct map m;

		map_start(&m, 1);
		msgpack_pack_int(&m.pk, -5);
		msgpack_pack_int(&m.pk, 7);
		check_refused(&m, ALL, "a key of params must be text, got -5");
	}
END_TEST

START_TEST(fault_11_a_key_given_twice_is_refused)
	{
		struct map m;

		map_start(&m, 2);
		pack_kv_text(&m.pk, "pool", "a");
		pack_kv_text(&m.pk, "pool", "b");
		check_refused(&m, ALL, "the key \"pool\" is given twice");
		map_start(&m, 2);
		pack_kv_text(&m.pk, "pool", NULL);
		pack_kv_text(&m.pk, "pool", "b");
		check_refused(&m, ALL, "the key \"pool\" is given twice");
	}
END_TEST

START_TEST(fault_11_a_value_that_is_cut_is_refused)
	{
		struct params p;
		struct complaint c;

		ck_assert(!params_parse(SPAN_LIT("\x81\xa4pool"), ALL, "execute", &p, &c));
		ck_assert_str_eq(c.message, "the value of \"pool\" is cut");
	}
END_TEST

static void check_name_refused(const char *name, size_t len, const char *message)
{
	struct map m;

	map_start(&m, 1);
	pack_text(&m.pk, "target");
	pack_text_n(&m.pk, name, len);
	check_refused(&m, ALL, message);
}

START_TEST(fault_13_names_with_nul_escapes_or_bad_utf_8_are_refused)
	{
		check_name_refused("a\0b", 3, "target must not hold control characters, got \"a\\x00b\"");
		check_name_refused("\x1b[2J", 4, "target must not hold control characters, got \"\\x1b[2J\"");
		check_name_refused("a\x7f", 2, "target must not hold control characters, got \"a\\x7f\"");
		check_name_refused("a\xc2\x85", 3, "target must not hold control characters, got \"a\\xc2\\x85\"");
		check_name_refused("a\nb", 3, "target must not hold control characters, got \"a\\x0ab\"");
		check_name_refused("\xff", 1, "target must be valid UTF-8, got \"\\xff\"");
		check_name_refused("ab\xc3", 3, "target must be valid UTF-8, got \"ab\\xc3\"");
	}
END_TEST

START_TEST(names_have_1_to_255_bytes)
	{
		char name[256], key_value[300];
		struct complaint c;
		struct params p;

		memset(name, 'n', sizeof(name));
		check_name_refused("", 0, "target must be text of 1 to 255 bytes, got an empty one");
		memcpy(key_value, "\x81\xa6target\xd9\xff", 10);
		memcpy(key_value + 10, name, 255);
		ck_assert(params_parse((struct span){ (const uint8_t *)key_value, 265 }, ALL, "x", &p, &c));
		ck_assert_uint_eq(p.target.len, 255);
		memcpy(key_value, "\x81\xa6target\xda\x01\x00", 11);
		memcpy(key_value + 11, name, 256);
		ck_assert(!params_parse((struct span){ (const uint8_t *)key_value, 267 }, ALL, "x", &p, &c));
		ck_assert_ptr_eq(strstr(c.message, "target must be text of 1 to 255 bytes, got 256: \"nnn"), c.message);
	}
END_TEST

START_TEST(names_may_be_of_any_script)
	{
		struct complaint c;
		struct params p;

		ck_assert(params_parse(SPAN_LIT("\x81\xa4pool\xa6\xe6\xb1\xa0\xc2\xa0x"), ALL, "x", &p, &c));
		ck_assert_uint_eq(p.pool.len, 6);
	}
END_TEST

static void check_ms(struct span value, const char *got)
{
	char message[200];
	struct map m;

	(void)snprintf(message, sizeof(message), MS_RULE "%s", got);
	map_start(&m, 1);
	pack_text(&m.pk, "timeout_ms");
	pack_raw(&m.pk, value);
	check_refused(&m, ALL, message);
}

START_TEST(fault_15_times_out_of_range_are_refused)
	{
		check_ms(SPAN_LIT("\xff"), "-1");
		check_ms(SPAN_LIT("\xd0\x80"), "-128");
		check_ms(SPAN_LIT("\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
		check_ms(SPAN_LIT("\x00"), "0");
		check_ms(SPAN_LIT("\xce\x80\x00\x00\x01"), "2147483649");
		check_ms(SPAN_LIT("\xcf\x80\0\0\0\0\0\0\0"), "9223372036854775808");
		check_ms(SPAN_LIT("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
	}
END_TEST

START_TEST(fault_15_times_of_another_type_are_refused)
	{
		check_ms(SPAN_LIT("\xcb\x40\x9f\x40\0\0\0\0\0"), "float 2000");
		check_ms(SPAN_LIT("\xca\x3f\xc0\0\0"), "float 1.5");
		check_ms(SPAN_LIT("\xcb\x7f\xf8\0\0\0\0\0\0"), "float nan");
		check_ms(SPAN_LIT("\xcb\x7f\xf0\0\0\0\0\0\0"), "float inf");
		check_ms(SPAN_LIT("\xa4"
				  "1\x1b"
				  "ms"),
			 "str \"1\\x1bms\"");
		check_ms(SPAN_LIT("\xc3"), "true");
		check_ms(SPAN_LIT("\x91\x05"), "array");
		check_ms(SPAN_LIT("\xd4\x01\x05"), "ext");
	}
END_TEST

START_TEST(fault_15_times_at_the_edges_are_accepted)
	{
		struct complaint c;
		struct params p;

		ck_assert(params_parse(SPAN_LIT("\x81\xaatimeout_ms\x01"), ALL, "x", &p, &c));
		ck_assert_uint_eq(p.timeout_ms, 1);
		ck_assert(params_parse(SPAN_LIT("\x81\xaatimeout_ms\xce\x80\x00\x00\x00"), ALL, "x", &p, &c));
		ck_assert_uint_eq(p.timeout_ms, PARAM_MS_MAX);
	}
END_TEST

START_TEST(other_kinds_say_what_they_take)
	{
		struct map m;

		map_start(&m, 1);
		pack_kv_text(&m.pk, "meta", "yes");
		check_refused(&m, ALL, "meta must be true or false, got str \"yes\"");
		map_start(&m, 1);
		pack_kv_double(&m.pk, "lease", 1);
		check_refused(&m, ALL, "lease must be an integer from 0 to 18446744073709551615, got float 1");
		map_start(&m, 1);
		pack_kv_uint(&m.pk, "features", 3);
		check_refused(&m, ALL, "features must be an array, got 3");
		map_start(&m, 1);
		pack_kv_uint(&m.pk, "target", 3);
		check_refused(&m, ALL, "target must be text of 1 to 255 bytes, got 3");
	}
END_TEST

START_TEST(a_refusal_of_a_long_key_and_value_fits_the_message)
	{
		static char name[70000];
		struct map m;

		memset(name, 'k', sizeof(name));
		map_start(&m, 1);
		pack_text_n(&m.pk, name, sizeof(name));
		msgpack_pack_nil(&m.pk);

		struct complaint c;
		struct params p;

		ck_assert(!params_parse(map_span(&m), ALL, "execute", &p, &c));
		ck_assert_ptr_nonnull(strstr(c.message, "kkk...\"; accepted: target args"));
		msgpack_sbuffer_destroy(&m.buf);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("params");
	TCase *t = tcase_create("params");

	suite_add_tcase(s, t);
	tcase_add_test(t, an_absent_map_is_an_empty_one);
	tcase_add_test(t, every_kind_is_read_in_place);
	tcase_add_test(t, every_key_of_the_table_is_known);
	tcase_add_test(t, keys_and_names_may_be_bin);
	tcase_add_test(t, fault_11_an_unknown_key_names_what_is_accepted);
	tcase_add_test(t, fault_11_a_key_of_another_method_is_refused);
	tcase_add_test(t, fault_11_a_key_that_is_no_text_is_refused);
	tcase_add_test(t, fault_11_a_key_given_twice_is_refused);
	tcase_add_test(t, fault_11_a_value_that_is_cut_is_refused);
	tcase_add_test(t, fault_13_names_with_nul_escapes_or_bad_utf_8_are_refused);
	tcase_add_test(t, names_have_1_to_255_bytes);
	tcase_add_test(t, names_may_be_of_any_script);
	tcase_add_test(t, fault_15_times_out_of_range_are_refused);
	tcase_add_test(t, fault_15_times_of_another_type_are_refused);
	tcase_add_test(t, fault_15_times_at_the_edges_are_accepted);
	tcase_add_test(t, other_kinds_say_what_they_take);
	tcase_add_test(t, a_refusal_of_a_long_key_and_value_fits_the_message);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
