/* FNV-1a: what it digests comes from the configuration, where nobody looks for two of the same. */
#include "daemon/pool/shape.h"

#include <stddef.h>
#include <string.h>

#include "daemon/pool/settings.h"

#define OFFSET UINT64_C(0xcbf29ce484222325)
#define PRIME UINT64_C(0x100000001b3)

static uint64_t add_bytes(uint64_t h, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < n; i++)
		h = (h ^ at[i]) * PRIME;
	return h;
}

/* With its end, so that two texts are not the same as one. None is not the same as an empty one. */
static uint64_t add_text(uint64_t h, const char *text)
{
	return text ? add_bytes(h, text, strlen(text) + 1) : add_bytes(h, "\xff", 1);
}

static uint64_t add_list(uint64_t h, char *const *list)
{
	for (; list && *list; list++)
		h = add_text(h, *list);
	return add_text(h, NULL);
}

static uint64_t add_number(uint64_t h, uint64_t n)
{
	return add_bytes(h, &n, sizeof(n));
}

uint64_t shape_of_text(const char *text)
{
	return add_text(OFFSET, text);
}

uint64_t shape_of(const struct pool_settings *s)
{
	const uint64_t numbers[] = { s->max_reply,  s->limit_nofile, s->limit_as, s->limit_memory,
				     s->limit_pids, s->has_user,     s->uid,      s->gid };
	const char *const texts[] = { s->app, s->python, s->warmup };
	char *const *const lists[] = { s->path, s->modules, s->environment, s->preload };
	uint64_t h = OFFSET;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		h = add_text(h, texts[i]);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		h = add_list(h, lists[i]);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		h = add_number(h, numbers[i]);
	return h;
}
