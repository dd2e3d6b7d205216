#include "daemon/io/unit.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/suite.h"

static const struct {
	const char *cgroup, *path; /* NULL: it is in no service */
} cases[] = {
	{ "0::/system.slice/pypoold.service\n", "/system.slice/pypoold.service" },
	{ "0::/system.slice/pypoold.service", "/system.slice/pypoold.service" },
	{ "0::/system.slice/pypoold.service/daemon\n", "/system.slice/pypoold.service" },
	{ "0::/system.slice/system-pypoold.slice/pypoold@a.service\n", "/system.slice/system-pypoold.slice/pypoold@a.service" },
	{ "0::/user.slice/user@7.service/app.slice/pypoold.service/x\n", "/user.slice/user@7.service/app.slice/pypoold.service" },
	/* the old and the new hierarchies beside each other, and systemd's alone */
	{ "12:pids:/a.service\n1:name=systemd:/b.service\n0::/c.service\n", "/c.service" },
	{ "12:pids:/a.service\n1:name=systemd:/b.service/x\n", "/b.service" },
	{ "1:name=systemd:/b.service\n0::/\n", "/b.service" },
	{ "12:pids:/a.service\n", NULL },
	{ "0::/\n", NULL },
	{ "0::/user.slice/session-1.scope\n", NULL },
	{ "0::/x.services/y\n", NULL },
	{ "0::/.servic\n", NULL },
	{ "0::/a.slice\n3:cpu:/evil::/b.service\n", NULL },
	{ "", NULL },
	{ "\n\n", NULL },
	{ "0:", NULL },
	{ "nonsense", NULL },
};

START_TEST(a_unit_is_the_innermost_service)
	{
		struct unit u;
		bool is = unit_parse(&u, cases[_i].cgroup);

		ck_assert_int_eq(is, cases[_i].path != NULL);
		if (is)
			ck_assert_str_eq(u.path, cases[_i].path);
	}
END_TEST

START_TEST(a_unit_has_what_is_in_its_group_and_below)
	{
		static const char *const ours[] = { "0::/s/p.service\n", "0::/s/p.service", "0::/s/p.service/daemon\n",
						    "3:pids:/other\n0::/s/p.service/worker-1.2\n" };
		static const char *const others[] = { "",
						      "0::/\n",
						      "0::/s\n",
						      "0::/s/p.service2\n",
						      "0::/s/p.servic\n",
						      "0::/s/other.service\n",
						      "0::/t/s/p.service\n",
						      "1:name=systemd:/s/p.service\n",
						      "3:pids:/s/p.service\n" };
		struct unit u;

		ck_assert(unit_parse(&u, "0::/s/p.service/daemon\n"));
		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			ck_assert_msg(unit_holds(&u, ours[i]), "%s", ours[i]);
		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			ck_assert_msg(!unit_holds(&u, others[i]), "%s", others[i]);
	}
END_TEST

START_TEST(a_path_that_is_too_long_is_none)
	{
		char text[2 * UNIT_TEXT];
		struct unit u;

		memset(text, 'a', sizeof(text));
		memcpy(text, "0::/", 4);
		(void)snprintf(text + sizeof(text) - 20, 20, ".service\n");
		ck_assert(!unit_parse(&u, text));
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("unit");
	TCase *c = tcase_create("unit");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(c, a_unit_is_the_innermost_service, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(c, a_unit_has_what_is_in_its_group_and_below);
	tcase_add_test(c, a_path_that_is_too_long_is_none);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
