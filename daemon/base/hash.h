/* uthash, which ends the process with exit(-1) when it finds no memory: here it ends as mem_new() does. */
#pragma once

#include "daemon/base/mem.h"

#define uthash_malloc(size) mem_new(size)
#include <uthash.h>
