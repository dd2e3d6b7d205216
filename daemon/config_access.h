/* One access block from its section: names become numbers here, and are not looked up again. */
#pragma once

#include "daemon/config.h"
#include "daemon/config_options.h"

/* Fills in *rule; what is wrong is complained about. c has its pools. */
void config_access_read(struct config_source *src, const struct config *c, cfg_t *cfg, int section,
			struct access_rule *rule);
void config_access_deinit(struct access_rule *rule);
