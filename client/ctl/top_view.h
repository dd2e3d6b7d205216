/* What pypoolctl top shows of a sample. */
#pragma once

#include "client/ctl/sample.h"

/* Tables for people. False: it could not be made. */
bool top_view_write(FILE *out, const struct sample *now, const struct sample *before);
/* One object on a line. */
bool top_view_write_json(FILE *out, const struct sample *now, const struct sample *before);
