/* The configuration in force, with the place where each option is given: for config.show and pypoold --check. */
#pragma once

#include <msgpack.h>

#include "daemon/config.h"
#include "daemon/config_options.h"

/* Where the configuration of a running daemon is. Before it runs, both are the same. */
struct config_view {
	const struct config *now;   /* the last that was read */
	const struct config *first; /* the one that it was started with */
	const struct config_request *request;
};

/* Three pairs: "files", "options" and "access". */
void config_show_top(const struct config_view *v, msgpack_packer *pk);
/* One map: {name, source, options}. given: what the files say, which one of the configurations holds; settings: what is in
 * force, which an operator may have resized. */
void config_show_pool(const struct config_view *v, const struct pool_settings *given, const struct pool_settings *settings,
		      msgpack_packer *pk);
/* An option of config_top_options as a file would write it; the caller frees it. */
char *config_show_text(const struct config *c, const struct option_spec *spec);
/* All of it, as config.show answers it to an admin. buf is made; the caller destroys it. */
void config_show_all(const struct config *c, const struct config_request *request, msgpack_sbuffer *buf);
