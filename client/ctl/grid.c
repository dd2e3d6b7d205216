#include "client/ctl/grid.h"

#include <libsmartcols.h>
#include <stdlib.h>

#include "client/ctl/ctl.h"
#include "client/ctl/json.h"
#include "proto/cursor.h"

static int grid_add_row(struct libscols_table *table, struct span row, const struct grid_column *columns)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);

	if (!line)
		return -1;
	for (size_t i = 0; columns[i].title; i++) {
		struct span value = cell_of(row, columns[i].key);
		char *text = value.len > 0 ? columns[i].text(value) : NULL;
		int r = text && *text ? scols_line_set_data(line, i, text) : scols_line_set_data(line, i, "-");

		free(text);
		if (r < 0)
			return r;
	}
	return 0;
}

static int grid_fill(struct libscols_table *table, struct span list, const struct grid_column *columns)
{
	struct span row;
	uint32_t n;

	for (size_t i = 0; columns[i].title; i++)
		if (!scols_table_new_column(table, columns[i].title, 0, columns[i].right ? SCOLS_FL_RIGHT : 0))
			return -1;
	if (!mp_read_array(&list, &n)) {
		fprintf(stderr, "pypoolctl: the daemon did not answer with a list\n");
		return -1;
	}
	for (; n > 0 && mp_read_any(&list, &row); n--)
		if (grid_add_row(table, row, columns) < 0)
			return -1;
	return 0;
}

/* libsmartcols prints nothing at all for a table without rows, which looks like a failure. */
static int grid_write_titles(FILE *out, const struct grid_column *columns)
{
	for (size_t i = 0; columns[i].title; i++)
		if (fprintf(out, "%s%s", i ? " " : "", columns[i].title) < 0)
			return -1;
	return fputc('\n', out) == EOF ? -1 : 0;
}

int grid_write(FILE *out, struct span list, const struct grid_column *columns)
{
	struct libscols_table *table = scols_new_table();
	int r = CTL_FAILED;

	if (table) {
		(void)scols_table_enable_noencoding(
			table, 1); /* cells are escaped already; a second time they are hard to read */
		(void)scols_table_set_stream(table, out);
	}
	if (table && grid_fill(table, list, columns) == 0 &&
	    (scols_table_get_nlines(table) ? scols_print_table(table) : grid_write_titles(out, columns)) == 0)
		r = CTL_OK;
	scols_unref_table(table);
	return r;
}

int grid_print(struct span list, const struct grid_column *columns)
{
	return grid_write(stdout, list, columns);
}

int grid_show(const struct ctl *ctl, struct span list, const struct grid_column *columns)
{
	if (!ctl->json)
		return grid_print(list, columns);
	json_print(stdout, list);
	putchar('\n');
	return CTL_OK;
}

int grid_command(struct ctl *ctl, const char *method, const char *pool, const struct grid_column *columns)
{
	struct pypool_reply *reply;
	int r = ctl_ask_about(ctl, method, pool, &reply);

	if (r != CTL_OK)
		return r;
	r = grid_show(ctl, ctl_value(reply), columns);
	(void)pypool_reply_free(reply);
	return r;
}
