#include "daemon/pool/registry.h"

#include "daemon/pool/request.h"
#include "tests/unit/pool_support.h"

START_TEST(a_request_is_found_by_its_callers_id_and_by_its_number)
	{
		struct request *r[3];
		struct registry g;

		registry_init(&g);
		for (uint64_t i = 0; i < 3; i++) {
			r[i] = calloc(1, sizeof(**r) + 1);
			r[i]->key = (struct request_key){ .caller = 1 + i / 2, .id = i % 2 ? UINT64_MAX : 5 };
			r[i]->call = 10 + i;
			registry_add_request(&g, r[i]);
		}
		ck_assert_ptr_eq(registry_find_by_id(&g, 1, 5), r[0]);
		ck_assert_ptr_eq(registry_find_by_id(&g, 1, UINT64_MAX), r[1]);
		ck_assert_ptr_eq(registry_find_by_id(&g, 2, 5), r[2]); /* the same id of another caller */
		ck_assert_ptr_null(registry_find_by_id(&g, 2, UINT64_MAX));
		ck_assert_ptr_eq(registry_find_call(&g, 11), r[1]);
		ck_assert_ptr_null(registry_find_call(&g, 5));
		for (unsigned i = 0; i < 3; i++) {
			registry_remove_request(&g, r[i]);
			ck_assert_ptr_null(registry_find_call(&g, 10 + i));
			free(r[i]);
		}
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(a_lease_is_found_until_it_is_removed)
	{
		struct lease l = { .id = 3 };
		struct registry g;

		registry_init(&g);
		ck_assert_ptr_null(registry_find_lease(&g, 3));
		registry_add_lease(&g, &l);
		ck_assert_ptr_eq(registry_find_lease(&g, 3), &l);
		ck_assert_ptr_null(registry_find_lease(&g, 4));
		registry_remove_lease(&g, &l);
		ck_assert_ptr_null(registry_find_lease(&g, 3));
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(what_has_not_ended_at_the_end_is_a_bug_line)
	{
		struct lease l = { .id = 3 };
		struct registry g;

		registry_init(&g);
		registry_add_lease(&g, &l);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 1);
		registry_remove_lease(&g, &l);
	}
END_TEST

RUN_SUITE("registry", a_request_is_found_by_its_callers_id_and_by_its_number, a_lease_is_found_until_it_is_removed,
	  what_has_not_ended_at_the_end_is_a_bug_line)
