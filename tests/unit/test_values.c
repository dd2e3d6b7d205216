#include "daemon/pool/values.h"

#include <check.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/packed.h"
#include "proto/cursor.h"
#include "proto/pack.h"
#include "tests/support/suite.h"

struct scene {
	struct blob_pool blobs;
	struct values values;
	uint64_t bugs;
};

static void scene_begin(struct scene *sc)
{
	*sc = (struct scene){ .bugs = log_bugs() };
	blob_pool_init(&sc->blobs);
}

static void scene_end(struct scene *sc)
{
	values_clear(&sc->values);
	blob_pool_deinit(&sc->blobs);
	ck_assert_uint_eq(log_bugs(), sc->bugs);
}

static struct span packed(const msgpack_sbuffer *b)
{
	return (struct span){ .p = (const uint8_t *)b->data, .len = b->size };
}

/* Sets key to n, or deletes it when n is negative. */
static enum values_status edit(struct scene *sc, const char *key, int n, size_t limit, struct values_size *size)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	enum values_status r;
	msgpack_packer pk;

	packed_begin(&buf, &pk);
	if (n >= 0) {
		msgpack_pack_map(&pk, 1);
		pack_kv_uint(&pk, key, (uint64_t)n);
		r = values_edit(&sc->values, &sc->blobs, packed(&buf), (struct span){ 0 }, limit, size);
	} else {
		msgpack_pack_array(&pk, 1);
		pack_text(&pk, key);
		r = values_edit(&sc->values, &sc->blobs, (struct span){ 0 }, packed(&buf), limit, size);
	}
	return r;
}

static void ck_value(const struct scene *sc, const char *key, int n)
{
	struct span value = { 0 };
	uint64_t v = 0;

	if (n < 0) {
		ck_assert(!values_get(&sc->values, span_str(key), &value));
		return;
	}
	ck_assert(values_get(&sc->values, span_str(key), &value));
	ck_assert(mp_read_uint(&value, &v) && value.len == 0);
	ck_assert_uint_eq(v, (uint64_t)n);
}

START_TEST(values_are_set_replaced_and_deleted)
	{
		struct values_size size;
		struct scene sc;

		scene_begin(&sc);
		ck_value(&sc, "a", -1);
		ck_assert_int_eq(edit(&sc, "a", 1, 0, NULL), VALUES_OK);
		ck_assert_int_eq(edit(&sc, "b", 2, 0, NULL), VALUES_OK);
		ck_assert_int_eq(edit(&sc, "a", 300, 0, &size), VALUES_OK);
		ck_assert_uint_eq(size.keys, 2);
		ck_assert_uint_eq(size.bytes, values_bytes(&sc.values));
		ck_value(&sc, "a", 300);
		ck_value(&sc, "b", 2);
		ck_assert_int_eq(edit(&sc, "a", -1, 0, &size), VALUES_OK);
		ck_assert_uint_eq(size.removed, 1);
		ck_assert_int_eq(edit(&sc, "a", -1, 0, &size), VALUES_OK);
		ck_assert_uint_eq(size.removed, 0);
		ck_value(&sc, "a", -1);
		ck_value(&sc, "b", 2);
		ck_assert_uint_eq(sc.values.n, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_edit_that_is_refused_changes_nothing)
	{
		static const uint8_t twice[] = { 0x82, 0xa1, 'a', 1, 0xa1, 'a', 2 }, number[] = { 0x81, 1, 1 },
				     empty[] = { 0x81, 0xa0, 1 }, set[] = { 0x81, 0xa1, 'a', 5 }, del[] = { 0x91, 0xa1, 'a' };
		const struct {
			struct span set, del;
		} bad[] = {
			{ .set = { twice, sizeof(twice) } },
			{ .set = { number, sizeof(number) } },
			{ .set = { empty, sizeof(empty) } },
			{ .set = { set, sizeof(set) }, .del = { del, sizeof(del) } },
			{ .set = { del, sizeof(del) } },
			{ .del = { set, sizeof(set) } },
		};
		struct scene sc;

		scene_begin(&sc);
		ck_assert_int_eq(edit(&sc, "a", 1, 0, NULL), VALUES_OK);
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			ck_assert_int_eq(values_edit(&sc.values, &sc.blobs, bad[i].set, bad[i].del, 0, NULL), VALUES_MALFORMED);
			ck_value(&sc, "a", 1);
		}
		scene_end(&sc);
	}
END_TEST

START_TEST(the_limit_counts_all_keys_and_values)
	{
		struct values_size size;
		struct scene sc;

		scene_begin(&sc);
		ck_assert_int_eq(edit(&sc, "a", 1, 6, NULL), VALUES_OK); /* 3 bytes */
		ck_assert_int_eq(edit(&sc, "b", 2, 6, NULL), VALUES_OK);
		ck_assert_int_eq(edit(&sc, "b", 1000, 6, &size), VALUES_TOO_LARGE);
		ck_assert_uint_eq(size.bytes, 8);
		ck_assert_int_eq(edit(&sc, "c", 1, 6, &size), VALUES_TOO_LARGE);
		ck_value(&sc, "b", 2);
		ck_value(&sc, "c", -1);
		ck_assert_int_eq(edit(&sc, "b", 3, 6, NULL), VALUES_OK);
		scene_end(&sc);
	}
END_TEST

START_TEST(there_are_keys_up_to_a_number)
	{
		char key[16];
		struct scene sc;

		scene_begin(&sc);
		for (int i = 0; i < VALUES_KEYS_MAX; i++) {
			(void)snprintf(key, sizeof(key), "k%d", i);
			ck_assert_int_eq(edit(&sc, key, i, 0, NULL), VALUES_OK);
		}
		ck_assert_int_eq(edit(&sc, "more", 1, 0, NULL), VALUES_TOO_MANY);
		ck_assert_int_eq(edit(&sc, "k7", 1, 0, NULL), VALUES_OK);
		ck_value(&sc, "k1023", 1023);
		scene_end(&sc);
	}
END_TEST

START_TEST(who_sends_the_values_holds_what_he_began_with)
	{
		struct scene sc;
		struct slice held;
		uint8_t before[3];

		scene_begin(&sc);
		ck_assert_int_eq(edit(&sc, "a", 1, 0, NULL), VALUES_OK);
		held = slice_ref(sc.values.pairs.blob, sc.values.pairs.span);
		memcpy(before, held.span.p, sizeof(before));
		ck_assert_int_eq(edit(&sc, "a", 9, 0, NULL), VALUES_OK);
		ck_assert_uint_eq(held.span.len, sizeof(before));
		ck_assert_mem_eq(held.span.p, before, sizeof(before));
		slice_clear(&held);
		ck_value(&sc, "a", 9);
		scene_end(&sc);
	}
END_TEST

START_TEST(values_are_packed_as_one_map)
	{
		_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
		msgpack_packer pk;
		struct scene sc;

		scene_begin(&sc);
		ck_assert_int_eq(edit(&sc, "a", 1, 0, NULL), VALUES_OK);
		ck_assert_int_eq(edit(&sc, "b", 2, 0, NULL), VALUES_OK);
		packed_begin(&buf, &pk);
		values_pack(&sc.values, &pk);
		ck_assert_uint_eq(buf.size, 7);
		ck_assert_mem_eq(buf.data, "\x82\xa1"
					   "a\x01\xa1"
					   "b\x02",
				 7);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("values", values_are_set_replaced_and_deleted, an_edit_that_is_refused_changes_nothing,
	  the_limit_counts_all_keys_and_values, there_are_keys_up_to_a_number,
	  who_sends_the_values_holds_what_he_began_with, values_are_packed_as_one_map)
