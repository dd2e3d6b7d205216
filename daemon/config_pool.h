/* One pool's settings from its section, or from the command line. */
#pragma once

#include "daemon/config.h"
#include "daemon/config_options.h"
#include "daemon/config_trust.h"

/* Fills in *s; what is wrong is complained about. cfg and CONFIG_TOP: request's app makes the pool "default". */
void config_pool_read(struct config_source *src, const struct config_request *request, cfg_t *cfg, int section,
		      struct pool_settings *s);
void config_pool_deinit(struct pool_settings *s);
/* Who may own and write what the daemon uses, before any pool adds its user. */
struct config_trust config_trust_new(const struct config_request *request);
