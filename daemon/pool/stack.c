#include "daemon/pool/stack.h"

#include <stdio.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/pool/text.h"

#define IMPORTS_MAX 16

static const char *find(const char *text, size_t len, const char *what)
{
	return len ? memmem(text, len, what, strlen(what)) : NULL;
}

static struct span part(const char *from, const char *to)
{
	return (struct span){ .p = (const uint8_t *)from, .len = (size_t)(to - from) };
}

/* One line without its newline. */
static bool stack_read_line(struct span line, struct stack_frame *f)
{
	const char *text = (const char *)line.p, *end = text + line.len;
	const char *file = find(text, line.len, "File \"");
	const char *quote = file ? find(file, (size_t)(end - file), "\", line ") : NULL;
	const char *number = quote ? quote + 8 : NULL;
	const char *in = number ? find(number, (size_t)(end - number), " in ") : NULL;

	if (!number)
		return false;
	f->file = part(file + 6, quote);
	f->line = part(number, in ? in : end);
	f->function = in ? part(in + 4, end) : (struct span){ 0 };
	return true;
}

bool stack_next(struct span *rest, struct stack_frame *f)
{
	while (rest->len) {
		const uint8_t *newline = memchr(rest->p, '\n', rest->len);
		struct span line = { .p = rest->p, .len = newline ? (size_t)(newline - rest->p) : rest->len };
		size_t used = line.len + (newline != NULL);

		rest->p += used;
		rest->len -= used;
		if (stack_read_line(line, f))
			return true;
	}
	return false;
}

bool stack_frame_is_user(const struct stack_frame *f)
{
	static const char *const others[] = { "/lib/python3", "/site-packages/", "/dist-packages/", "/pypool_worker/",
					      "/python_worker/run_worker.py" };
	const char *file = (const char *)f->file.p;

	if (f->file.len && file[0] == '<')
		return false; /* <frozen importlib._bootstrap> */
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (find(file, f->file.len, others[i]))
			return false;
	}
	return true;
}

static struct span base_of(struct span path)
{
	const uint8_t *slash = path.len ? memrchr(path.p, '/', path.len) : NULL;

	return slash ? part((const char *)slash + 1, (const char *)path.p + path.len) : path;
}

static bool is_module(const struct stack_frame *f)
{
	return span_equals(f->function, "<module>");
}

/* "app.py line 5 in slow"; the top level of a module has no name. */
static void describe(const struct stack_frame *f, char out[STACK_TEXT])
{
	struct span base = base_of(f->file);
	bool named = f->function.len && !is_module(f);

	(void)snprintf(out, STACK_TEXT, "%.*s line %.*s%s%.*s", (int)base.len, (const char *)base.p, (int)f->line.len,
		       (const char *)f->line.p, named ? " in " : "", named ? (int)f->function.len : 0,
		       (const char *)f->function.p);
	text_make_utf8(out);
}

const char *stack_place(struct span stack, char out[STACK_TEXT])
{
	struct stack_frame f, found;
	bool any = false, user = false;

	out[0] = '\0';
	while (!user && stack_next(&stack, &f)) {
		user = stack_frame_is_user(&f);
		if (user || !any)
			found = f;
		any = true;
	}
	if (any)
		describe(&found, out);
	return out;
}

/* "db" of /srv/db.py and of /srv/db/__init__.py */
static struct span module_of(struct span path)
{
	struct span base = base_of(path);

	if (span_equals(base, "__init__.py") && path.len > base.len)
		return base_of((struct span){ .p = path.p, .len = path.len - base.len - 1 });
	if (base.len > 3 && memcmp(base.p + base.len - 3, ".py", 3) == 0)
		base.len -= 3;
	return base;
}

const char *stack_imports(struct span stack, char *out, size_t size)
{
	struct stack_frame users[IMPORTS_MAX], f;
	char place[STACK_TEXT];
	unsigned n = 0;
	size_t used = 0;

	out[0] = '\0';
	while (n < IMPORTS_MAX && stack_next(&stack, &f)) {
		if (stack_frame_is_user(&f))
			users[n++] = f;
	}
	for (unsigned i = n; i-- > 1 && used < size;) { /* the frame before i is what i has called */
		struct span module = module_of(users[i - 1].file);

		if (!is_module(&users[i - 1]))
			continue;
		describe(&users[i], place);
		used += (size_t)snprintf(out + used, size - used, "%s%.*s (%s)", used ? " -> " : "", (int)module.len,
					 (const char *)module.p, place);
	}
	text_make_utf8(out);
	return out;
}

struct span stack_cut(struct span stack)
{
	static const char *const ours[] = { "/pypool_worker/runner.py\"", "/pypool_worker/bootstrap.py\"" };
	const char *text = (const char *)stack.p;

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		const char *found = find(text, stack.len, ours[i]);
		const char *line = found ? memrchr(text, '\n', (size_t)(found - text)) : NULL;

		if (line)
			stack.len = (size_t)(line + 1 - text);
	}
	return stack;
}
