/*
 * Tries everything in small worlds: from each state every move, breadth first, until no new state is found. A state is
 * reached by doing its moves again, and is known by its portrait.
 */
#pragma once

#include <stdbool.h>

/* The world of that name, "all", or, for NULL, those that make check has time for; path: only that way through it, as a
 * violation prints it. audited: whenever two ways have led to the same portrait, both are gone on by one move, and that
 * must look the same too. Returns the exit status. */
int small_run(const char *name, const char *path, bool audited);
