#include "proto/errors.h"

#include <string.h>

struct error_line {
	const char *name;
	enum executed executed;
	const char *meaning;
};

static const struct error_line lines[ERROR_N] = { [ERROR_NONE] = { "none", EXECUTED_YES, "no error" },
#define X(UPPER, lower, executed_, meaning_) [ERROR_##UPPER] = { #lower, EXECUTED_##executed_, meaning_ },
						  PROTO_ERRORS(X)
#undef X
};

static const struct error_line *error_line(enum error_code code)
{
	return &lines[(unsigned)code < ERROR_N ? code : ERROR_INTERNAL];
}

const char *error_name(enum error_code code)
{
	return error_line(code)->name;
}

enum executed error_executed(enum error_code code)
{
	return error_line(code)->executed;
}

const char *error_meaning(enum error_code code)
{
	return error_line(code)->meaning;
}

const char *executed_name(enum executed executed)
{
	switch (executed) {
	case EXECUTED_NEVER:
		return "never";
	case EXECUTED_YES:
		return "yes";
	case EXECUTED_MAYBE:
		break;
	}
	return "maybe";
}

enum error_code error_find(const void *name, size_t len)
{
	for (int code = ERROR_NONE + 1; code < ERROR_N; code++) {
		if (strlen(lines[code].name) == len && memcmp(lines[code].name, name, len) == 0)
			return (enum error_code)code;
	}
	return ERROR_NONE;
}
