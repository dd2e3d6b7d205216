#include "client/ctl/pss.h"

#include <stdio.h>

#include "client/ctl/cell.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* In the page tables of the process, hence slow: a millisecond for each 100 MiB. The daemon does not wait for that. */
bool pss_read(uint64_t pid, uint64_t *kib)
{
	char path[64], line[256];
	unsigned long long value;
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%llu/smaps_rollup", (unsigned long long)pid); /* fits */
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "Pss: %llu kB", &value) == 1;
	(void)fclose(f); /* of what was only read */
	*kib = found ? value : 0;
	return found;
}

static void pss_add_to(struct span map, uint32_t pairs, struct span whole, msgpack_packer *pk)
{
	struct span pid = cell_of(whole, "pid"), state = cell_of(whole, "state"), name;
	uint64_t number = 0, kib;

	msgpack_pack_map(pk, pairs + 1);
	pack_raw(pk, map); /* the pairs as they are */
	pack_text(pk, "pss_kib");
	if (mp_read_text(&state, &name) && !span_equals(name, "dead") && mp_read_uint(&pid, &number) && number &&
	    pss_read(number, &kib))
		msgpack_pack_uint64(pk, kib);
	else
		msgpack_pack_nil(pk);
}

bool pss_add(struct span list, msgpack_sbuffer *out)
{
	struct span map, whole;
	uint32_t n, pairs;
	msgpack_packer pk;

	if (!mp_read_array(&list, &n))
		return false;
	msgpack_packer_init(&pk, out, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, n);
	while (n-- && mp_read_any(&list, &whole)) {
		map = whole;
		if (!mp_read_map(&map, &pairs))
			return false;
		pss_add_to(map, pairs, whole, &pk);
	}
	return true;
}
