#include "daemon/config_environment.h"

#include <stdbool.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

struct list {
	char **entries; /* owns */
	unsigned n;
};

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* Takes entry. */
static void list_set(struct list *list, char *entry)
{
	for (unsigned i = 0; i < list->n; i++) {
		if (same_name(list->entries[i], entry)) {
			free(list->entries[i]);
			list->entries[i] = entry;
			return;
		}
	}
	list->entries = mem_resize(list->entries, list->n + 2, sizeof(*list->entries));
	list->entries[list->n++] = entry;
	list->entries[list->n] = NULL;
}

static bool is_kept(const char *entry)
{
	static const char *const kept[] = {
		"PATH=",     "HOME=", "USER=",   "LOGNAME=",       "SHELL=",        "LANG=",
		"LANGUAGE=", "TZ=",   "TMPDIR=", "SSL_CERT_FILE=", "SSL_CERT_DIR=",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++) {
		if (strncmp(entry, kept[i], strlen(kept[i])) == 0)
			return true;
	}
	return strncmp(entry, "LC_", 3) == 0 && strchr(entry, '=');
}

char **config_environment_new(char *const *own, const struct config_identity *identity, char *const *entries)
{
	struct list list = { 0 };

	for (; *own; own++) {
		if (is_kept(*own))
			list_set(&list, mem_strdup(*own));
	}
	if (identity) {
		list_set(&list, mem_printf("HOME=%s", identity->home));
		list_set(&list, mem_printf("USER=%s", identity->name));
		list_set(&list, mem_printf("LOGNAME=%s", identity->name));
		list_set(&list, mem_printf("SHELL=%s", identity->shell));
	}
	/* workers share the cores already: threads of a library's own make each of them slower */
	list_set(&list, mem_strdup("OMP_NUM_THREADS=1"));
	list_set(&list, mem_strdup("OPENBLAS_NUM_THREADS=1"));
	list_set(&list, mem_strdup("MKL_NUM_THREADS=1"));
	for (; *entries; entries++)
		list_set(&list, mem_strdup(*entries));
	return list.entries;
}
