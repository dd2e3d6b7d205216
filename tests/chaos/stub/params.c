#include "tests/chaos/stub/params.h"

#include "proto/cursor.h"

uint64_t params_uint(struct span map, const char *name)
{
	uint32_t pairs = 0;
	uint64_t v = 0;

	(void)mp_read_map(&map, &pairs);
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&map, &key) || !mp_read_any(&map, &value))
			break;
		if (span_equals(key, name))
			(void)mp_read_uint(&value, &v);
	}
	return v;
}

struct span params_any(struct span map, const char *name)
{
	uint32_t pairs = 0;
	struct span key, value;

	(void)mp_read_map(&map, &pairs);
	while (pairs--) {
		if (!mp_read_text(&map, &key) || !mp_read_any(&map, &value))
			break;
		if (span_equals(key, name))
			return value;
	}
	return (struct span){ 0 };
}
