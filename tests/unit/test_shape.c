#include "daemon/pool/shape.h"

#include "daemon/pool/settings.h"
#include "tests/support/suite.h"

static struct pool_settings plain(void)
{
	static char *path[] = { "/a", "/b", NULL };

	return (struct pool_settings){ .name = "x", .app = "app", .python = "/usr/bin/python3", .path = path, .max_workers = 4 };
}

START_TEST(what_a_worker_is_started_with_changes_it)
	{
		static char *joined[] = { "/a/b", NULL }, *fewer[] = { "/a", NULL };
		struct pool_settings of[] = { plain(), plain(), plain(), plain(), plain(), plain(), plain(), plain() };

		of[1].app = "ap";
		of[2].warmup = "";
		of[3].path = joined;
		of[4].path = fewer;
		of[5].environment = fewer;
		of[6].limit_memory = 1;
		of[7].has_user = true;
		for (unsigned i = 0; i < 8; i++) {
			for (unsigned j = 0; j < i; j++)
				ck_assert_msg(shape_of(&of[i]) != shape_of(&of[j]), "%u and %u", i, j);
		}
	}
END_TEST

START_TEST(what_can_be_changed_while_it_lives_does_not)
	{
		struct pool_settings a = plain(), b = plain();

		b.max_workers = 8;
		b.call_timeout = 1;
		b.session_ttl = 1;
		b.start_fork = true;
		b.name = "y";
		ck_assert_uint_eq(shape_of(&a), shape_of(&b));
	}
END_TEST

/* It is compared with one of another process. */
START_TEST(a_text_has_the_same_in_every_process)
	{
		ck_assert_uint_eq(shape_of_text(""), UINT64_C(0xaf63bd4c8601b7df));
		ck_assert_uint_eq(shape_of_text("default"), shape_of_text("default"));
		ck_assert_uint_ne(shape_of_text("a"), shape_of_text("b"));
	}
END_TEST

RUN_SUITE("shape", what_a_worker_is_started_with_changes_it, what_can_be_changed_while_it_lives_does_not,
	  a_text_has_the_same_in_every_process)
