#include "client/ctl/duration.h"

#include <stddef.h>
#include <string.h>

#define DURATION_MAX (UINT64_C(1) << 31)

static uint64_t duration_unit_ms(const char *unit)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 60 * 60 * 1000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(units[i].name, unit) == 0)
			return units[i].ms;
	return 0;
}

bool duration_parse(const char *text, uint32_t *ms, const char **error)
{
	uint64_t v = 0, unit;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && v <= DURATION_MAX; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	unit = duration_unit_ms(p);
	if (p == text)
		*error = "a time is a number and a unit, such as 250ms, 30s, 5m or 1h";
	else if (*p == '\0')
		*error = "a unit is missing: ms, s, m or h";
	else if (v > DURATION_MAX || (unit && v * unit > DURATION_MAX))
		*error = "too long: at most 2^31 ms (about 24 days)";
	else if (!unit)
		*error = "unknown unit: ms, s, m and h are known, and numbers are whole";
	else if (v == 0)
		*error = "too short: at least 1ms";
	else {
		*ms = (uint32_t)(v * unit);
		return true;
	}
	return false;
}
