/* What a process weighs, as the kernel tells whoever may look into it: root, and its own user. */
#pragma once

#include <msgpack.h>

#include "proto/span.h"

/* The list of maps of `workers`, each with one pair more: pss_kib, its proportional set size (memory that it shares is
 * divided by those who share it); nil where that cannot be had. False: it is no such list. */
bool pss_add(struct span list, msgpack_sbuffer *out);
/* What one process weighs. False: we may not see it, or it is gone. */
bool pss_read(uint64_t pid, uint64_t *kib);
