/* What the program before this one, in this very process, has handed over: see upgrade.h. */
#pragma once

#include "daemon/base/unpack.h"

struct daemon;

/* What the program before this one has handed over. */
struct inheritance {
	void *memory;  /* owns: mapping; NULL: nothing */
	size_t size;
	struct unpacker u;
	char from[32]; /* its version */
	uint64_t stopped; /* ns, since when it has read nothing */
};

/* First of all in main(): what there is, from the environment. False: it is not what this program reads; *why says so. */
bool inheritance_open(struct inheritance *in, char *why, size_t why_size);
void inheritance_close(struct inheritance *in);
/* Everything into d, which has been made and has not begun. False: it is damaged. */
bool inheritance_take(struct inheritance *in, struct daemon *d);
