#include "proto/methods.h"

static const struct method_info infos[METHOD_N] = {
#define X(ident, name_, role_, keys_, doc_)                                                                            \
	[METHOD_##ident] = { .name = name_, .role = ROLE_##role_, .keys = keys_, .doc = doc_ },
	PROTO_METHODS(X)
#undef X
};

const struct method_info *method_info(enum method m)
{
	return &infos[m];
}

enum method method_find(struct span name)
{
	int m = 0;

	while (m < METHOD_N && !span_equals(name, infos[m].name))
		m++;
	return (enum method)m;
}

const char *method_list(void)
{
#define X(ident, name, role, keys, doc) " " name
	static const char list[] = PROTO_METHODS(X);
#undef X
	return list + 1;
}

const char *role_name(enum role role)
{
	switch (role) {
	case ROLE_USE:
		return "use";
	case ROLE_OBSERVE:
		return "observe";
	case ROLE_ADMIN:
		return "admin";
	case ROLE_NONE:
		break;
	}
	return "none";
}
