#include "tests/support/desk.h"

#include <ftw.h>
#include <stdio.h>

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

void desk_deinit(struct desk *d)
{
	config_free(d->config);
	free(d->said);
	ck_assert_int_eq(nftw(d->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void desk_put(struct desk *d, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fputs(text, f) < 0, 0);
	fclose(f);
}

void desk_load(struct desk *d, const struct config_request *request)
{
	size_t size;
	FILE *f;

	free(d->said);
	d->config = config_free(d->config);
	f = open_memstream(&d->said, &size);
	d->config = config_load(request, f);
	fclose(f);
	ck_assert_msg(!d->config == !!*d->said, "refused in silence, or accepted with complaints: %s", d->said);
}

void desk_load_file(struct desk *d)
{
	const struct config_request request = { .file = d->file };

	desk_load(d, &request);
}

struct desk desk_new(const char *text)
{
	struct desk d = { .dir = "/tmp/pypool-config-XXXXXX" };

	ck_assert_ptr_nonnull(mkdtemp(d.dir));
	setenv("XDG_RUNTIME_DIR", d.dir, 1);
	snprintf(d.file, sizeof(d.file), "%s/pypoold.conf", d.dir);
	if (text) {
		desk_put(&d, "pypoold.conf", text);
		desk_load_file(&d);
	}
	return d;
}

void check_said(const struct desk *d, const char *file, int line, const char *what)
{
	char where[96];

	snprintf(where, sizeof(where), "%s/%s:%d: ", d->dir, file, line);
	ck_assert_msg(!d->config, "accepted, instead of: %s", what);
	ck_assert_msg(strncmp(d->said, where, strlen(where)) == 0, "not at %s but: %s", where, d->said);
	ck_assert_msg(strstr(d->said, what), "not \"%s\" but: %s", what, d->said);
}

void check_refused(const char *text, int line, const char *what)
{
	_cleanup_desk_ struct desk d = desk_new(text);

	check_said(&d, "pypoold.conf", line, what);
}

struct desk desk_accepted(const char *text)
{
	struct desk d = desk_new(text);

	ck_assert_msg(d.config, "refused: %s", d.said);
	return d;
}
