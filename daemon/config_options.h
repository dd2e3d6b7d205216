/*
 * The options that exist: one table for the top of a file, one for a pool and one for an access block. A row says how an
 * option is written, what it is when it is not, and where it goes. libconfuse's schema is made of these rows, and
 * docs/configuration.md has one entry for each (a test compares).
 */
#pragma once

#include <confuse.h>
#include <stdint.h>

#include "daemon/config_source.h"
#include "proto/frame.h"

#define CONFIG_REPLY_MAX (FRAME_MAX_LIMIT - 64 * 1024) /* the envelope around a result needs room too */

enum option_kind {
	OPTION_COUNT,    /* unsigned */
	OPTION_NUMBER,   /* uint64_t */
	OPTION_DURATION, /* uint64_t, ns */
	OPTION_SIZE,     /* uint64_t, bytes */
	OPTION_SIZE_32,  /* uint32_t, bytes */
	OPTION_MODE,     /* unsigned, octal */
	OPTION_YES_NO,   /* bool */
	OPTION_LEVEL,    /* enum log_level */
	OPTION_FORMAT,   /* enum log_format */
	OPTION_TEXT,     /* char *; NULL when empty */
	OPTION_LIST,     /* char **, NULL-terminated */
	OPTION_SPECIAL,  /* text that config.c makes something of */
};

struct option_spec {
	const char *name; /* NULL ends a table */
	enum option_kind kind;
	size_t offset;
	const char *fallback;
	uint64_t min, max; /* of a number that is not 0 */
	const char *zero;  /* what 0 means; NULL: 0 is refused */
};

extern const struct option_spec config_top_options[];  /* of struct config */
/* Of those: a running daemon keeps what it was started with. */
bool config_option_is_fixed(const char *name);
extern const struct option_spec config_pool_options[]; /* of struct pool_settings */
extern const struct option_spec config_access_options[]; /* of struct config_access */

/* An access block as it is written. */
struct config_access {
	char **uid, **gid, **pools; /* own: NULL-terminated */
};

/* A schema without values. Complaints go to src, which it borrows. */
cfg_t *config_options_new(struct config_source *src);
void config_options_free(cfg_t **root);
/* Adds what is in a text that has passed the filter. */
void config_options_parse(cfg_t *root, const char *file, const char *text);
/* Fills in the struct that the table is of; what is wrong is complained about and left alone. cfg NULL: all fallbacks. */
void config_options_read(struct config_source *src, cfg_t *cfg, int section, const struct option_spec *table,
			 void *into);
/* The text of one option, or its fallback, perhaps NULL. Borrowed from cfg. */
const char *config_options_text(cfg_t *cfg, const struct option_spec *table, const char *name);
