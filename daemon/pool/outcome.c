#include "daemon/pool/outcome.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/pool/text.h"

void outcome_error(struct outcome *o, enum error_code code, const char *format, ...)
{
	va_list ap;

	*o = (struct outcome){ .code = code, .executed = error_executed(code) };
	va_start(ap, format);
	(void)vsnprintf(o->message, sizeof(o->message), format, ap); /* a cut message is still a message */
	va_end(ap);
	text_make_utf8(o->message);
}

void outcome_value(struct outcome *o, struct slice value)
{
	*o = (struct outcome){ .code = ERROR_NONE, .executed = EXECUTED_YES, .value = value };
}
