/*
 * A number for all that the future of a world depends on: what the daemon holds, what the workers hold, what lies
 * between them, and what each request was told. Two worlds with the same portrait go on in the same way, so a search
 * need follow one of them only. What is only counted, logged or shown is left out; times are told from now.
 */
#pragma once

#include "tests/sim/world.h"

uint64_t portrait(const struct world *w);
