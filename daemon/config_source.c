#include "daemon/config_source.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

void config_source_init(struct config_source *src, FILE *complaints)
{
	*src = (struct config_source){ .complaints = complaints };
}

void config_source_deinit(struct config_source *src)
{
	for (unsigned i = 0; i < src->n_files; i++)
		free(src->files[i]);
	free(src->files);
	for (unsigned i = 0; i < src->n_marks; i++)
		free(src->marks[i].name);
	free(src->marks);
	*src = (struct config_source){ 0 };
}

/* ---- complaints */

static void put_escaped(FILE *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p < ' ' || *p == 0x7f)
			fprintf(out, "\\x%02x", *p);
		else
			fputc(*p, out);
	}
}

static void complain_va(struct config_source *src, const char *file, int line, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL;

	src->n_complaints++;
	if (vasprintf(&text, format, ap) < 0)
		text = mem_strdup("out of memory");
	put_escaped(src->complaints, file);
	if (line)
		fprintf(src->complaints, ":%d", line);
	fputs(": ", src->complaints);
	put_escaped(src->complaints, text);
	fputc('\n', src->complaints);
}

void config_source_complain(struct config_source *src, const char *file, int line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	complain_va(src, file, line, format, ap);
	va_end(ap);
}

void config_source_complain_at(struct config_source *src, int section, const char *key, const char *format, ...)
{
	const struct config_mark *mark = key ? config_source_find(src, section, key) : NULL;
	va_list ap;

	if (!mark)
		mark = config_source_find(src, section, NULL);
	va_start(ap, format);
	if (mark)
		complain_va(src, mark->file, mark->line, format, ap);
	else
		complain_va(src, src->n_files ? src->files[0] : "configuration", src->n_files ? 1 : 0, format, ap);
	va_end(ap);
}

/* ---- marks */

const struct config_mark *config_source_find(const struct config_source *src, int section, const char *name)
{
	for (unsigned i = 0; i < src->n_marks; i++) {
		const struct config_mark *mark = &src->marks[i];

		if (mark->section != section || !name != !mark->name)
			continue;
		if (!name || strcmp(mark->name, name) == 0)
			return mark;
	}
	return NULL;
}

const char *config_source_file(struct config_source *src, const char *name)
{
	src->files = mem_resize(src->files, src->n_files + 1, sizeof(*src->files));
	src->files[src->n_files] = mem_strdup(name);
	return src->files[src->n_files++];
}

int config_source_section(const struct config_source *src, bool is_access, unsigned n)
{
	for (unsigned i = 0; i < src->n_marks; i++) {
		const struct config_mark *mark = &src->marks[i];

		if (!mark->name && mark->section != CONFIG_TOP && mark->is_access == is_access && n-- == 0)
			return mark->section;
	}
	return CONFIG_TOP;
}

static void mark_add(struct config_source *src, const char *file, int line, int section, char *name)
{
	src->marks = mem_resize(src->marks, src->n_marks + 1, sizeof(*src->marks));
	src->marks[src->n_marks++] =
		(struct config_mark){ .file = file, .line = line, .section = section, .name = name };
}

/* ---- the filter */

struct filter {
	struct config_source *src;
	const char *file;
	const char *p, *end;
	int line;
	char *out; /* owns; as long as the text twice over: only a dollar sign grows, by a backslash */
	size_t out_len;

	const char *before; /* the word before the last, or NULL: points into the text */
	size_t before_len;
	const char *word; /* the last word, when nothing came after it: points into the text */
	size_t word_len;
	int word_line;
	bool word_is_quoted;

	bool after_equals;
	bool in_list;
	int section; /* CONFIG_TOP, or the one we are in */
	int depth;   /* of sections */
	int opened;  /* line of the last brace that was opened */
	bool ok;
};

static void __attribute__((format(printf, 2, 3))) filter_complain(struct filter *f, const char *format, ...)
{
	va_list ap;

	f->ok = false;
	va_start(ap, format);
	complain_va(f->src, f->file, f->line, format, ap);
	va_end(ap);
}

static void filter_copy(struct filter *f, size_t n)
{
	memcpy(f->out + f->out_len, f->p, n);
	f->out_len += n;
	f->p += n;
}

static bool filter_sees(const struct filter *f, const char *what)
{
	size_t n = strlen(what);

	return (size_t)(f->end - f->p) >= n && memcmp(f->p, what, n) == 0;
}

static void filter_newline(struct filter *f)
{
	filter_copy(f, 1);
	f->line++;
}

static void filter_skip_line(struct filter *f)
{
	while (f->p < f->end && *f->p != '\n')
		f->p++;
}

static void filter_skip_comment(struct filter *f)
{
	int begin = f->line;

	f->out[f->out_len++] = ' '; /* "a / * * / b" are two words */
	for (f->p += 2; f->p < f->end && !filter_sees(f, "*/");) {
		if (*f->p == '\n')
			filter_newline(f);
		else
			f->p++;
	}
	if (f->p < f->end) {
		f->p += 2;
		return;
	}
	f->line = begin;
	filter_complain(f, "this comment is never closed by */");
}

static void filter_take_word(struct filter *f, const char *begin, bool quoted)
{
	f->before = f->word;
	f->before_len = f->word_len;
	f->word = begin;
	f->word_len = (size_t)(f->p - begin);
	f->word_line = f->line;
	f->word_is_quoted = quoted;
	f->after_equals = false;
}

static void filter_string(struct filter *f)
{
	const char *begin = f->p;
	char quote = *f->p;

	filter_copy(f, 1);
	while (f->p < f->end && *f->p != quote && *f->p != '\n') {
		if (*f->p == '\\' && f->p + 1 < f->end && f->p[1] != '\n')
			filter_copy(f, 2);
		else if (*f->p == '\\')
			break;
		else if (quote == '"' && filter_sees(f, "${")) {
			f->out[f->out_len++] = '\\'; /* else libconfuse would put the environment's value here */
			filter_copy(f, 2);
		} else {
			filter_copy(f, 1);
		}
	}
	if (f->p < f->end && *f->p == quote) {
		filter_copy(f, 1);
		filter_take_word(f, begin, true);
		return;
	}
	filter_complain(f, "this string is not closed on its line by %c", quote);
	filter_skip_line(f);
}

static void filter_word(struct filter *f)
{
	const char *begin = f->p;

	while (f->p < f->end && !strchr(" \t\n#\"'={}()+,*", *f->p))
		filter_copy(f, 1);
	if (f->p[-1] == '$' && filter_sees(f, "{"))
		filter_complain(
			f, "${...} is not expanded here; put the value itself, or quote it to have these characters");
	filter_take_word(f, begin, false);
}

/* A key is a plain name and comes once. */
static void filter_key(struct filter *f)
{
	const struct config_mark *before;
	_cleanup_free_ char *name = NULL;

	if (!f->word)
		return; /* libconfuse says what it misses */
	name = mem_strndup(f->word, f->word_len);
	for (const char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p) && *p != '_') {
			filter_complain(f, "no such option %s%s%s; names are letters and underscores, without quotes",
					f->word_is_quoted ? "" : "\"", name, f->word_is_quoted ? "" : "\"");
			return;
		}
	}
	before = config_source_find(f->src, f->section, name);
	if (before)
		filter_complain(f, "%s is given twice; the first is at %s:%d", name, before->file, before->line);
	else
		mark_add(f->src, f->file, f->word_line, f->section, TAKE_PTR(name));
}

/* Whether what was read is: kind "NAME", also when the name is missing. */
static bool filter_opens(const struct filter *f, const char *kind)
{
	size_t len = strlen(kind);

	return (f->before && f->before_len == len && memcmp(f->before, kind, len) == 0) ||
	       (!f->before && f->word && f->word_len == len && memcmp(f->word, kind, len) == 0);
}

static void filter_open(struct filter *f)
{
	f->opened = f->line;
	if (f->after_equals) {
		f->in_list = true;
		return;
	}
	f->depth++;
	if (f->depth == 1) {
		f->section = f->src->n_sections++;
		mark_add(f->src, f->file, f->line, f->section, NULL);
		f->src->marks[f->src->n_marks - 1].is_access = filter_opens(f, "access");
	}
}

static void filter_close(struct filter *f)
{
	if (f->in_list) {
		f->in_list = false;
		return;
	}
	if (f->depth == 0) {
		filter_complain(f, "this } closes nothing");
		return;
	}
	f->depth--;
	if (f->depth == 0)
		f->section = CONFIG_TOP;
}

static void filter_punctuation(struct filter *f)
{
	char c = *f->p;

	if (c == '=')
		filter_key(f);
	else if (c == '{')
		filter_open(f);
	else if (c == '}')
		filter_close(f);
	f->after_equals = c == '=';
	f->word = NULL;
	filter_copy(f, 1);
}

static void filter_refuse(struct filter *f)
{
	unsigned char c = (unsigned char)*f->p;

	if (c == '\r')
		filter_complain(f, "this line ends with a carriage return; save the file with Unix line ends");
	else if (c == '+')
		filter_complain(f, "+= is not accepted; write the whole list after =");
	else if (c == '*')
		filter_complain(f, "unexpected *; quote a value that contains it");
	else
		filter_complain(f, "byte 0x%02x cannot stand in a configuration file", c);
	filter_skip_line(f); /* one complaint a line is enough */
}

static bool is_control(char c)
{
	return ((unsigned char)c < ' ' && c != '\t' && c != '\n') || c == 0x7f;
}

static void filter_next(struct filter *f)
{
	if (*f->p == '\n')
		filter_newline(f);
	else if (*f->p == ' ' || *f->p == '\t')
		filter_copy(f, 1);
	else if (*f->p == '#' || filter_sees(f, "//"))
		filter_skip_line(f);
	else if (filter_sees(f, "/*"))
		filter_skip_comment(f);
	else if (*f->p == '"' || *f->p == '\'')
		filter_string(f);
	else if (strchr("={}(),", *f->p))
		filter_punctuation(f);
	else if (*f->p == '+' || *f->p == '*')
		filter_refuse(f);
	else
		filter_word(f);
}

/* Before anything else, so that comments and strings are covered too. */
static void filter_check_bytes(struct filter *f)
{
	const char *begin = f->p;

	if (filter_sees(f, "\xef\xbb\xbf") || filter_sees(f, "\xff\xfe") || filter_sees(f, "\xfe\xff")) {
		filter_complain(f, "the file begins with a byte order mark; save it as UTF-8 without one");
		return;
	}
	while (f->p < f->end) {
		if (is_control(*f->p))
			filter_refuse(f);
		else if (*f->p++ == '\n')
			f->line++;
	}
	f->p = begin;
	f->line = 1;
}

char *config_source_filter(struct config_source *src, const char *file, const char *text, size_t len)
{
	struct filter f = {
		.src = src, .file = file, .p = text, .end = text + len, .line = 1, .section = CONFIG_TOP, .ok = true
	};

	filter_check_bytes(&f);
	if (!f.ok)
		return NULL;
	f.out = mem_new(2 * len + 2); /* a comment of two bytes at least makes a blank */
	while (f.p < f.end)
		filter_next(&f);
	if (f.ok && (f.depth || f.in_list)) {
		f.line = f.opened;
		filter_complain(&f, "this { is never closed by }");
	}
	if (f.ok)
		return f.out;
	free(f.out);
	return NULL;
}
