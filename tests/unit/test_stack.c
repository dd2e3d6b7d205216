#include "daemon/pool/stack.h"

#include "tests/unit/pool_support.h"

static void ck_place(const char *stack, const char *place)
{
	char out[STACK_TEXT];

	ck_assert_str_eq(stack_place(span_str(stack), out), place);
}

START_TEST(the_innermost_frame_of_a_dump_is_found)
	{
		ck_place("Stack (most recent call first):\n  File \"/srv/app.py\", line 5 in slow\n  File \"/x.py\", "
			 "line 1 in y\n",
			 "app.py line 5 in slow");
		ck_place("  File \"app.py\", line 5 in slow", "app.py line 5 in slow");
		ck_place("  File \"/srv/app.py\", line 3 in <module>\n", "app.py line 3");
		ck_place("  File \"app.py\", line 5", "app.py line 5");
		ck_place("  File \"a\xff.py\", line 5 in x\n", "a?.py line 5 in x");
		ck_place("", "");
		ck_place("no file here\n", "");
		ck_place("  File \"", "");
		ck_place("  File \"cut", "");
		ck_place("  File \"a\"", "");
	}
END_TEST

START_TEST(frames_of_libraries_are_passed_over)
	{
		ck_place("  File \"/usr/lib/python3.11/threading.py\", line 320 in wait\n  File \"/srv/app.py\", line "
			 "5 in slow\n",
			 "app.py line 5 in slow");
		ck_place("  File \"<frozen importlib._bootstrap>\", line 9 in _find\n  File \"/srv/app.py\", line 5 in "
			 "<module>\n",
			 "app.py line 5");
		ck_place("  File \"/v/lib/python3.9/site-packages/a/b.py\", line 1 in f\n  File "
			 "\"/p/pypool_worker/runner.py\", line 2 in g\n",
			 "b.py line 1 in f"); /* nothing of the user's */
	}
END_TEST

START_TEST(a_long_frame_is_cut)
	{
		char stack[1024], out[STACK_TEXT];

		memset(stack, 'x', sizeof(stack));
		memcpy(stack, "  File \"a.py\", line 1 in ", 25);
		stack_place((struct span){ .p = (const uint8_t *)stack, .len = sizeof(stack) }, out);
		ck_assert_uint_eq(strlen(out), STACK_TEXT - 1);
	}
END_TEST

static const char importing[] = "Stack (most recent call first):\n"
				"  File \"/srv/db/__init__.py\", line 9 in connect\n"
				"  File \"/srv/db/__init__.py\", line 2 in <module>\n"
				"  File \"<frozen importlib._bootstrap>\", line 241 in _call_with_frames_removed\n"
				"  File \"/srv/models.py\", line 7 in load\n"
				"  File \"/srv/models.py\", line 20 in <module>\n"
				"  File \"<frozen importlib._bootstrap>\", line 241 in _call_with_frames_removed\n"
				"  File \"/srv/app.py\", line 3 in <module>\n"
				"  File \"/usr/lib/python3.11/importlib/__init__.py\", line 126 in import_module\n"
				"  File \"/lib/pypool_worker/bootstrap.py\", line 56 in _import_all\n";

START_TEST(the_chain_of_imports_is_told_from_the_outermost_on)
	{
		char out[300];

		ck_assert_str_eq(stack_imports(span_str(importing), out, sizeof(out)),
				 "models (app.py line 3) -> db (models.py line 7 in load)");
		ck_place(importing, "__init__.py line 9 in connect");
		ck_assert_str_eq(
			stack_imports(SPAN_LIT("  File \"/srv/app.py\", line 3 in <module>\n"), out, sizeof(out)), "");
		ck_assert_str_eq(stack_imports((struct span){ 0 }, out, sizeof(out)), "");
		ck_assert_uint_lt(strlen(stack_imports(span_str(importing), out, 10)), 10);
	}
END_TEST

START_TEST(the_frames_of_the_worker_at_the_end_are_cut)
	{
		struct span s = stack_cut(span_str(importing));

		ck_assert_ptr_null(memmem(s.p, s.len, "bootstrap.py\"", 13));
		ck_assert_ptr_nonnull(memmem(s.p, s.len, "import_module", 13));
		ck_assert_uint_eq(stack_cut(SPAN_LIT("  File \"a.py\", line 1 in f\n")).len, 27);
		ck_assert_uint_eq(stack_cut((struct span){ 0 }).len, 0);
	}
END_TEST

RUN_SUITE("stack", the_innermost_frame_of_a_dump_is_found, frames_of_libraries_are_passed_over, a_long_frame_is_cut,
	  the_chain_of_imports_is_told_from_the_outermost_on, the_frames_of_the_worker_at_the_end_are_cut)
