/*
 * Encoded values of the daemon's own making: replies, post-mortems, messages to workers. msgpack-c's own buffer reports
 * failure with every single value, and whoever does not look sends half a map; this one ends as mem_new() does.
 */
#pragma once

#include <msgpack.h>

/* pk writes to buf from now on; msgpack_sbuffer_destroy() frees what it holds. */
void packed_begin(msgpack_sbuffer *buf, msgpack_packer *pk);
