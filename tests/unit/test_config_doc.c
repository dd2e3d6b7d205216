/* docs/configuration.md and the tables of options say the same. */
#include "tests/support/desk.h"

#include <stdio.h>

#include "daemon/config_options.h"

static char *read_doc(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopen("docs/configuration.md", "r");

	ck_assert_msg(f, "run this from the root of the project");
	ck_assert_int_gt(getdelim(&text, &size, '\0', f), 0);
	fclose(f);
	return text;
}

START_TEST(config_example_of_the_documentation_loads)
	{
		_cleanup_free_ char *doc = read_doc();
		char *begin = strstr(doc, "## A complete example\n```\n"), *end;
		const struct option_spec *const tables[] = { config_top_options, config_pool_options, config_access_options };

		ck_assert_ptr_nonnull(begin);
		begin += strlen("## A complete example\n```\n");
		end = strstr(begin, "```");
		ck_assert_ptr_nonnull(end);
		*end = '\0';
		{
			_cleanup_desk_ struct desk d = desk_accepted(begin);

			ck_assert_uint_eq(d.config->n_pools, 2);
		}
		for (unsigned i = 0; i < 3; i++) {
			for (const struct option_spec *spec = tables[i]; spec->name; spec++) {
				char key[64];

				snprintf(key, sizeof(key), "%s = ", spec->name);
				if (strcmp(spec->name, "user") != 0 &&
				    strcmp(spec->name, "socket_group") != 0) /* not on every machine */
					ck_assert_msg(strstr(begin, key), "the example is not complete: %s",
						      spec->name);
			}
		}
	}
END_TEST

/* Each option has a row with its default, and what 0 means where that is something; each row has an option. */
START_TEST(config_documentation_has_every_option_and_no_other)
	{
		_cleanup_free_ char *doc = read_doc();
		const struct option_spec *const tables[] = { config_top_options, config_pool_options, config_access_options };
		unsigned n_options = 0, n_rows = 0;

		for (unsigned i = 0; i < 3; i++) {
			for (const struct option_spec *spec = tables[i]; spec->name; spec++) {
				bool has_default = spec->fallback && *spec->fallback;
				char row[128];
				const char *found, *zero, *end;

				if (has_default)
					snprintf(row, sizeof(row), "\n| `%s` | `%s` |", spec->name, spec->fallback);
				else
					snprintf(row, sizeof(row), "\n| `%s` | |", spec->name);
				found = strstr(doc, row);
				ck_assert_msg(found, "docs/configuration.md has no row %s", row);
				end = strchr(found + 1, '\n');
				zero = strstr(found, " 0: ");
				ck_assert_msg((zero && zero < end) == !!spec->zero, "what 0 means: %s", row);
				n_options++;
			}
		}
		for (const char *p = doc; (p = strstr(p, "\n| `")); p++)
			n_rows++;
		ck_assert_uint_eq(n_rows, n_options);
	}
END_TEST

int main(void)
{
	setenv("CK_FORK", "yes", 1); /* tests change their directory and environment */
	return SUITE_RUN("config doc", NULL, NULL, config_example_of_the_documentation_loads,
			 config_documentation_has_every_option_and_no_other);
}
