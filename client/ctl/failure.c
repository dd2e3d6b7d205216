#include "client/ctl/failure.h"

#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "client/pypool.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* Text and lists of text as they are, all else as JSON. */
static void failure_print_value(FILE *out, struct span value, int indent)
{
	struct span rest = value, text, item;
	uint32_t n;

	if (mp_read_text(&rest, &text)) {
		text_write_indented(out, text, indent);
	} else if (mp_read_array(&rest, &n)) {
		for (; n > 0 && mp_read_any(&rest, &item); n--)
			failure_print_value(out, item, indent);
	} else {
		fprintf(out, "%*s", indent, "");
		json_print(out, value);
		fputc('\n', out);
	}
}

static bool failure_is_short(struct span value)
{
	struct span text;
	uint32_t n;

	if (mp_read_text(&value, &text))
		return text.len == 0 || !memchr(text.p, '\n', text.len);
	return !mp_read_array(&value, &n) || n == 0;
}

static void failure_print_field(FILE *out, struct span key, struct span value, int indent)
{
	struct span rest = value, text;

	fprintf(out, "%*s", indent, "");
	text_write(out, key, false);
	if (!failure_is_short(value)) {
		fputs(":\n", out);
		failure_print_value(out, value, indent + 2);
		return;
	}
	fputs(": ", out);
	if (mp_read_text(&rest, &text))
		text_write(out, text, false);
	else
		json_print(out, value);
	fputc('\n', out);
}

static bool failure_is_told(struct span key)
{
	return span_equals(key, "code") || span_equals(key, "message") || span_equals(key, "executed") ||
	       span_equals(key, "cause");
}

/* Fields of a map; skip_told: without those that have a place of their own. */
static void failure_print_map(FILE *out, struct span map, bool skip_told, int indent)
{
	struct span any, value;
	uint32_t n;

	if (!mp_read_map(&map, &n)) {
		if (map.len > 0)
			failure_print_value(out, map, indent);
		return;
	}
	for (; n > 0; n--) {
		struct span key = { 0 };

		if (!mp_read_text(&map, &key) && !mp_read_any(&map, &any))
			return;
		if (!mp_read_any(&map, &value))
			return;
		if (key.p && !(skip_told && failure_is_told(key)))
			failure_print_field(out, key, value, indent);
	}
}

void failure_print_fields(FILE *out, struct span map, int indent)
{
	failure_print_map(out, map, false, indent);
}

static struct span failure_span(struct pypool_span s)
{
	return (struct span){ .p = s.data, .len = s.size };
}

static void failure_print_json(FILE *out, const struct pypool_error *e)
{
	struct pypool_span map = pypool_error_map(e);
	msgpack_sbuffer b;
	msgpack_packer pk;

	if (map.size > 0) {
		json_print(out, failure_span(map));
		fputc('\n', out);
		return;
	}
	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 3);
	pack_kv_text(&pk, "code", pypool_error_code(e));
	pack_kv_text(&pk, "message", pypool_error_message(e));
	pack_kv_text(&pk, "executed", pypool_executed_name(pypool_error_executed(e)));
	json_print(out, (struct span){ .p = (const uint8_t *)b.data, .len = b.size });
	fputc('\n', out);
	msgpack_sbuffer_destroy(&b);
}

void failure_print(FILE *out, const struct pypool_error *e, bool json)
{
	struct span cause = failure_span(pypool_error_cause(e));

	if (json) {
		failure_print_json(out, e);
		return;
	}
	fputs("pypoolctl: ", out);
	text_write(out, span_str(pypool_error_code(e)), false);
	fputs(": ", out);
	text_write(out, span_str(pypool_error_message(e)), true);
	fprintf(out, "\nexecuted: %s\n", pypool_executed_name(pypool_error_executed(e)));
	failure_print_map(out, failure_span(pypool_error_map(e)), true, 0);
	if (cause.len > 0) {
		fputs("cause:\n", out);
		failure_print_map(out, cause, false, 2);
	}
}
