/* A claim of a fuzz target that does not hold ends the program, so that libFuzzer keeps the input. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define MUST(claim, ...)                                                                                               \
	do {                                                                                                           \
		if (!(claim)) {                                                                                        \
			(void)fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #claim);                      \
			(void)fprintf(stderr, __VA_ARGS__);                                                            \
			(void)fputc('\n', stderr);                                                                     \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)
