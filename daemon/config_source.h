/*
 * Where configuration comes from: the text of files on its way to libconfuse, and the complaints about them.
 *
 * libconfuse 3.3 is lenient where an operator wants to be told: it takes a key twice, an unclosed brace or comment, expands
 * ${ENV}, skips characters that it does not know, finds "pool|app", and its line numbers are wrong after a comment. So the
 * text is cut into tokens here first; what is not decided on is refused with its line, and comments do not get through.
 * On the way the line of each key and section is noted: later complaints name it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CONFIG_TOP (-1) /* the section of options outside of pools */

struct config_mark {
	const char *file; /* borrows: the source holds it */
	int line;
	int section; /* CONFIG_TOP, or the number of the section over all files */
	char *name;  /* owns; NULL: the beginning of the section itself */
	bool is_access; /* of a section: access "NAME", no pool */
};

struct config_source {
	FILE *complaints;
	unsigned n_complaints;
	char **files; /* owns: n_files names */
	unsigned n_files;
	struct config_mark *marks; /* owns: n_marks of them */
	unsigned n_marks;
	int n_sections;
};

void config_source_init(struct config_source *src, FILE *complaints);
void config_source_deinit(struct config_source *src);

/* Writes one line: "FILE:LINE: what"; without the number when line is 0. Control characters are escaped. */
void config_source_complain(struct config_source *src, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, at a key's place: the section's if the key is not given, "configuration" if there is no file at all. */
void config_source_complain_at(struct config_source *src, int section, const char *key, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Where the key is given; NULL if it is not. name NULL: the section. */
const struct config_mark *config_source_find(const struct config_source *src, int section, const char *name);

/* The number of the n-th section of that kind. CONFIG_TOP: there are not so many. */
int config_source_section(const struct config_source *src, bool is_access, unsigned n);

/* Remembers a file's name for as long as the source lives. */
const char *config_source_file(struct config_source *src, const char *name);
/* The text as libconfuse may see it, with the same lines; the caller frees it. NULL after complaints. */
char *config_source_filter(struct config_source *src, const char *file, const char *text, size_t len);
