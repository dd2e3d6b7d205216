/* The handlers of all methods, one for each line of proto/methods.h. Each answers its query once, now or through a pool. */
#pragma once

#include "proto/methods.h"

struct query;

#define X(ident, name, role, keys, doc) void method_##ident(struct query *q);
PROTO_METHODS(X)
#undef X
