/* The value of an option the other way round: out of the struct, as a file would write it, and as a value on the wire. */
#pragma once

#include <msgpack.h>

#include "daemon/config_options.h"

/* All of these are the caller's to free. */

/* In double quotes, with what would end them or act on a terminal behind a backslash. */
char *config_text_quote(const char *s);
/* What stands after the equals sign. field: where the table's offset points; not for OPTION_SPECIAL. */
char *config_text(const struct option_spec *spec, const void *field);
/* The same as a value: numbers are numbers, durations in ms, sizes in bytes; a mode is text. */
void config_text_pack(msgpack_packer *pk, const struct option_spec *spec, const void *field);
