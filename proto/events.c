#include "proto/events.h"

static const struct event_kind_line {
	const char *name;
	bool usual;
} lines[EVENT_N_KINDS] = {
#define X(UPPER, name_, usual_, doc) [EVENT_##UPPER] = { .name = name_, .usual = usual_ },
	PROTO_EVENT_KINDS(X)
#undef X
};

const char *event_kind_name(enum event_kind k)
{
	return lines[k].name;
}

bool event_kind_is_usual(enum event_kind k)
{
	return lines[k].usual;
}

enum event_kind event_kind_find(struct span name)
{
	int k = 0;

	while (k < EVENT_N_KINDS && !span_equals(name, lines[k].name))
		k++;
	return (enum event_kind)k;
}

const char *event_kind_list(void)
{
#define X(UPPER, name, usual, doc) " " name
	static const char list[] = PROTO_EVENT_KINDS(X);
#undef X
	return list + 1;
}
