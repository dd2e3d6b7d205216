/* What a stub worker is: its files, its number, the call in hand, and what it has of sessions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/chaos/stub/session.h"
#include "tests/chaos/stub/wire.h"

#define TAG_MAX 64

enum fd_number { FD_CALLS = 3, FD_CONTROL, FD_DUMP, FD_PAGE, FD_N };

struct page {
	volatile uint64_t wanted, reason;
};

struct stub {
	int log;
	int channel; /* owns: the socket of the next direct lease; -1: none */
	uint64_t worker;
	struct page *page;
	uint64_t call; /* that it runs */
	char tag[TAG_MAX];
	uint64_t n;  /* its parameter */
	uint8_t *in; /* owns: what came on the call channel */
	size_t in_used, in_room;
	struct wire wire;
	struct sessions sessions;
};
