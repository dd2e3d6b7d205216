#include "daemon/pool/account.h"

#include "tests/unit/pool_support.h"

#define UID 1000

/* One limit at a time; the message names it. */
static void ck_refused(bool allowed, const struct outcome *o, const char *limit)
{
	ck_assert(!allowed);
	ck_assert_int_eq(o->code, ERROR_QUOTA);
	ck_assert_int_eq(o->executed, EXECUTED_NEVER);
	ck_assert_ptr_nonnull(strstr(o->message, "uid 1000"));
	ck_assert_ptr_nonnull(strstr(o->message, limit));
}

START_TEST(an_account_lives_as_long_as_anything_is_charged_to_it)
	{
		struct registry g;
		struct account *a;

		registry_init(&g);
		a = account_add_caller(&g, UID);
		ck_assert_ptr_eq(account_add_connection(&g, UID), a);
		ck_assert_ptr_eq(g.accounts, a);
		account_charge_call(a, 7);
		account_charge_session(a);
		account_charge_lease(a);
		account_remove_connection(a);
		account_remove_caller(a);
		account_release_call(a, 7);
		account_release_lease(a);
		ck_assert_ptr_eq(g.accounts, a); /* a session outlives its connections */
		ck_assert_ptr_eq(account_add_caller(&g, UID), a);
		account_remove_caller(a);
		account_release_session(a);
		ck_assert_ptr_null(g.accounts);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(each_uid_has_its_own)
	{
		struct account *a, *b;
		struct registry g;

		registry_init(&g);
		a = account_add_connection(&g, UID);
		b = account_add_connection(&g, UID + 1);
		ck_assert_ptr_ne(a, b);
		ck_assert_ptr_eq(account_add_connection(&g, UID), a);
		ck_assert_uint_eq(account_connections(&g, UID), 2);
		ck_assert_uint_eq(account_connections(&g, UID + 1), 1);
		ck_assert_uint_eq(account_connections(&g, UID + 2), 0);
		account_remove_connection(b);
		account_remove_connection(a);
		account_remove_connection(a);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(fault_99_what_is_over_a_limit_is_quota_never)
	{
		struct registry g;
		struct account *a;
		struct outcome o;

		registry_init(&g);
		g.limits = (struct account_limits){
			.uid_max_calls = 2, .uid_max_bytes = 100, .uid_max_sessions = 1, .uid_max_leases = 1
		};
		a = account_add_caller(&g, UID);
		ck_assert(account_may_submit(a, 100, &o) && account_may_open(a, &o) && account_may_lease(a, &o));
		ck_refused(account_may_submit(a, 101, &o), &o, "uid_max_bytes is 100");
		account_charge_call(a, 60);
		ck_assert(account_may_submit(a, 40, &o));
		ck_refused(account_may_submit(a, 41, &o), &o, "uid_max_bytes is 100");
		account_charge_call(a, 1);
		ck_refused(account_may_submit(a, 1, &o), &o, "uid_max_calls is 2");
		account_charge_session(a);
		ck_refused(account_may_open(a, &o), &o, "uid_max_sessions is 1");
		account_charge_lease(a);
		ck_refused(account_may_lease(a, &o), &o, "uid_max_leases is 1");
		account_release_call(a, 60);
		account_release_call(a, 1);
		account_release_session(a);
		account_release_lease(a);
		ck_assert(account_may_submit(a, 100, &o) && account_may_open(a, &o) && account_may_lease(a, &o));
		account_remove_caller(a);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(a_limit_of_0_is_none)
	{
		struct registry g;
		struct account *a;
		struct outcome o;

		registry_init(&g);
		a = account_add_caller(&g, UID);
		account_charge_call(a, SIZE_MAX / 2);
		account_charge_lease(a);
		account_charge_session(a);
		ck_assert(account_may_submit(a, 1, &o) && account_may_open(a, &o) && account_may_lease(a, &o));
		account_release_call(a, SIZE_MAX / 2);
		account_release_lease(a);
		account_release_session(a);
		account_remove_caller(a);
		registry_deinit(&g);
	}
END_TEST

START_TEST(what_was_not_charged_is_not_given_back_but_a_bug_line)
	{
		struct registry g;
		struct account *a;

		registry_init(&g);
		a = account_add_caller(&g, UID);
		account_release_lease(a);
		ck_assert_uint_eq(log_bugs(), 1);
		ck_assert_uint_eq(a->leases, 0);
		account_charge_session(a);
		account_remove_caller(a);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 2); /* a session is left */
		account_release_session(a);
	}
END_TEST

START_TEST(a_waiting_checkout_is_charged_as_the_lease_that_it_will_be)
	{
		struct scene sc;
		const struct account *a;
		struct lease *l;

		scene_begin(&sc, 1);
		a = sc.one.caller.account;
		l = scene_lease(&sc, &sc.one, 1, 0);
		ck_assert_uint_eq(a->leases, 1);
		ck_assert_uint_eq(a->calls, 0);
		sim_checkout(&sc.two, 2, 0);
		sim_checkout(&sc.two, 3, 0);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(a->leases, 3);
		ck_assert_uint_eq(a->calls, 2);
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.two.caller.id, 3));
		ck_assert_uint_eq(a->leases, 2);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(a->leases, 1); /* the second has got it */
		ck_assert_uint_eq(a->calls, 0);
		caller_gone(&sc.two.caller);
		ck_assert_uint_eq(a->leases, 0);
		ck_assert_uint_eq(a->bytes, 0);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("account", an_account_lives_as_long_as_anything_is_charged_to_it, each_uid_has_its_own,
	  fault_99_what_is_over_a_limit_is_quota_never, a_limit_of_0_is_none,
	  what_was_not_charged_is_not_given_back_but_a_bug_line,
	  a_waiting_checkout_is_charged_as_the_lease_that_it_will_be)
