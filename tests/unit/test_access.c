#include "daemon/front/access.h"

#include <check.h>
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/front/descent.h"
#include "tests/support/suite.h"

#define POOLS 2

enum { APP = 1000, OPS = 1001, STRANGER = 1002, STAFF = 50, WHEEL = 10 };

static uid_t app_uid[] = { APP }, ops_uid[] = { OPS };
static gid_t staff_gid[] = { STAFF }, wheel_gid[] = { WHEEL };
static unsigned pool_1[] = { 1 };

/* Ops administer pool 1 and use the other; staff observe all; nobody else has a role but app, who is turned away. */
static struct access_rule rules[] = {
	{ .uids = app_uid, .n_uids = 1, .role = ROLE_NONE },
	{ .uids = ops_uid,
	  .n_uids = 1,
	  .gids = wheel_gid,
	  .n_gids = 1,
	  .pools = pool_1,
	  .n_pools = 1,
	  .role = ROLE_ADMIN },
	{ .uids = ops_uid, .n_uids = 1, .role = ROLE_USE },
	{ .gids = staff_gid, .n_gids = 1, .role = ROLE_OBSERVE },
};
static const struct access with_rules = { .rules = rules, .n_rules = 4, .own_is_admin = true };
static const struct access no_rules = { .own_is_admin = true };

/* The role on the daemon and on each pool. */
static void ck_roles(const struct access *a, struct access_peer peer, enum role role, enum role first, enum role second)
{
	struct access_grant g = access_judge(a, &peer, POOLS);
	enum role highest = first > second ? first : second;

	ck_assert_str_eq(role_name(g.role), role_name(role));
	ck_assert_str_eq(role_name(g.pools ? g.pools[0] : g.role), role_name(first));
	ck_assert_str_eq(role_name(g.pools ? g.pools[1] : g.role), role_name(second));
	ck_assert_str_eq(role_name(g.highest), role_name(highest > role ? highest : role));
	access_grant_deinit(&g);
}

START_TEST(without_blocks_everybody_observes_and_root_and_our_own_user_administer)
	{
		ck_roles(&no_rules, (struct access_peer){ .uid = STRANGER }, ROLE_OBSERVE, ROLE_OBSERVE, ROLE_OBSERVE);
		ck_roles(&no_rules, (struct access_peer){ .uid = 0 }, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN);
		ck_roles(&no_rules, (struct access_peer){ .uid = APP, .is_own = true }, ROLE_ADMIN, ROLE_ADMIN,
			 ROLE_ADMIN);
	}
END_TEST

START_TEST(under_a_service_manager_our_own_user_is_one_like_others)
	{
		struct access a = { 0 };

		ck_roles(&a, (struct access_peer){ .uid = APP, .is_own = true }, ROLE_OBSERVE, ROLE_OBSERVE,
			 ROLE_OBSERVE);
		ck_roles(&a, (struct access_peer){ .uid = 0, .is_own = true }, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN);
	}
END_TEST

START_TEST(with_blocks_only_who_is_listed_has_a_role)
	{
		ck_roles(&with_rules, (struct access_peer){ .uid = STRANGER }, ROLE_NONE, ROLE_NONE, ROLE_NONE);
		ck_roles(&with_rules, (struct access_peer){ .uid = 0 }, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN);
		ck_roles(&with_rules, (struct access_peer){ .uid = STRANGER, .gid = STAFF }, ROLE_OBSERVE, ROLE_OBSERVE,
			 ROLE_OBSERVE);
	}
END_TEST

START_TEST(the_first_block_that_concerns_a_pool_decides_on_it)
	{
		ck_roles(&with_rules, (struct access_peer){ .uid = OPS, .gid = STAFF }, ROLE_USE, ROLE_USE, ROLE_ADMIN);
		ck_roles(&with_rules, (struct access_peer){ .uid = APP, .gid = STAFF }, ROLE_NONE, ROLE_NONE,
			 ROLE_NONE);
	}
END_TEST

START_TEST(any_of_a_peers_groups_counts)
	{
		gid_t groups[] = { 7, STAFF, WHEEL };

		ck_roles(&with_rules, (struct access_peer){ .uid = STRANGER, .groups = groups, .n_groups = 1 },
			 ROLE_NONE, ROLE_NONE, ROLE_NONE);
		ck_roles(&with_rules, (struct access_peer){ .uid = STRANGER, .groups = groups, .n_groups = 2 },
			 ROLE_OBSERVE, ROLE_OBSERVE, ROLE_OBSERVE);
		ck_roles(&with_rules, (struct access_peer){ .uid = STRANGER, .groups = groups, .n_groups = 3 },
			 ROLE_OBSERVE, ROLE_OBSERVE, ROLE_ADMIN);
	}
END_TEST

START_TEST(everybody_is_everybody)
	{
		struct access_rule rule = { .everybody = true, .role = ROLE_USE };
		const struct access a = { .rules = &rule, .n_rules = 1 };

		ck_roles(&a, (struct access_peer){ .uid = STRANGER }, ROLE_USE, ROLE_USE, ROLE_USE);
	}
END_TEST

START_TEST(what_a_worker_started_is_no_admin_whoever_it_is)
	{
		struct access_peer peer = { .uid = 0, .is_own = true, .is_suspect = true };

		ck_roles(&no_rules, peer, ROLE_OBSERVE, ROLE_OBSERVE, ROLE_OBSERVE);
		ck_roles(&with_rules, peer, ROLE_NONE, ROLE_NONE, ROLE_NONE);
		peer.uid = OPS;
		ck_roles(&with_rules, peer, ROLE_USE, ROLE_USE, ROLE_OBSERVE);
	}
END_TEST

/* Ourselves, on a socket pair. */
static enum role asked(const struct access *a, pid_t pid)
{
	const struct access_peer peer = { .uid = geteuid(), .gid = getegid(), .is_own = true };
	struct descent descent = DESCENT_INIT;
	struct access_grant g;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	g = access_ask(a, fds[0], &peer, pid, POOLS, &descent);
	access_grant_deinit(&g);
	descent_deinit(&descent);
	close(fds[0]);
	close(fds[1]);
	return g.role;
}

START_TEST(children_of_ours_do_not_administer)
	{
		pid_t child = fork();

		if (child == 0) {
			(void)pause();
			_exit(0);
		}
		ck_assert_int_eq(asked(&no_rules, child), ROLE_OBSERVE);
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		ck_assert_int_eq(asked(&no_rules, getpid()), ROLE_ADMIN);
		ck_assert_int_eq(asked(&no_rules, getppid()), ROLE_ADMIN);
		ck_assert_int_eq(asked(&no_rules, 1), ROLE_ADMIN);
		ck_assert_int_eq(asked(&no_rules, child), ROLE_OBSERVE); /* gone: who knows whose it was */
	}
END_TEST

START_TEST(groups_are_the_kernels)
	{
		struct access_rule rule = { .gids = (gid_t[]){ 64099 }, .n_gids = 1, .role = ROLE_ADMIN };
		const struct access a = { .rules = &rule, .n_rules = 1 };
		gid_t many[200];

		if (geteuid() != 0)
			return; /* only root chooses its groups */
		for (unsigned i = 0; i < 200; i++)
			many[i] = 64000 + i;
		ck_assert_int_eq(setgroups(0, NULL), 0);
		ck_assert_int_eq(setresuid(-1, STRANGER, 0), 0);
		ck_assert_int_eq(asked(&a, 1), ROLE_NONE);
		ck_assert_int_eq(setresuid(-1, 0, 0), 0);
		ck_assert_int_eq(setgroups(200, many), 0); /* more than usual */
		ck_assert_int_eq(setresuid(-1, STRANGER, 0), 0);
		ck_assert_int_eq(asked(&a, 1), ROLE_ADMIN);
		ck_assert_int_eq(setresuid(-1, 0, 0), 0);
	}
END_TEST

RUN_SUITE("access", without_blocks_everybody_observes_and_root_and_our_own_user_administer,
	  under_a_service_manager_our_own_user_is_one_like_others, with_blocks_only_who_is_listed_has_a_role,
	  the_first_block_that_concerns_a_pool_decides_on_it, any_of_a_peers_groups_counts, everybody_is_everybody,
	  what_a_worker_started_is_no_admin_whoever_it_is, children_of_ours_do_not_administer, groups_are_the_kernels)
