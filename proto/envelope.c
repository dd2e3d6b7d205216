#include "proto/envelope.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/utf8.h"

#define QUOTE_DOTS "..."

/* Where a text of len bytes, cut anywhere, must end so that no character is cut. */
static size_t whole_chars(const char *text, size_t len)
{
	struct span s = { .p = (const uint8_t *)text, .len = len };

	while (s.len > 0) {
		size_t n = utf8_char(s);

		if (n == 0)
			break;
		s.p += n;
		s.len -= n;
	}
	return len - s.len;
}

bool complain(struct complaint *c, enum error_code code, const char *format, ...)
{
	va_list args;

	c->code = code;
	va_start(args, format);
	(void)vsnprintf(c->message, sizeof(c->message), format, args); /* a message that is cut still helps */
	va_end(args);
	c->message[whole_chars(c->message, strlen(c->message))] = '\0';
	return false;
}

/* Writes the next character, as it is or escaped, to piece; returns how many bytes of s it stands for. */
static size_t quote_char(struct span s, char piece[20])
{
	size_t n = utf8_char(s), bytes = n > 0 ? n : 1;

	if (n > 0 && !utf8_is_control(s)) {
		memcpy(piece, s.p, n);
		piece[n] = '\0';
		return n;
	}
	for (size_t i = 0; i < bytes; i++)
		(void)snprintf(piece + 4 * i, 5, "\\x%02x", s.p[i]);
	return bytes;
}

const char *envelope_quote(struct span s, char *out, size_t size)
{
	size_t at = 0, cut = 0; /* cut: where the dots go if not all fits */
	char piece[20];

	if (size == 0)
		return out;
	while (s.len > 0) {
		size_t taken = quote_char(s, piece), n = strlen(piece);

		if (at + n >= size)
			break;
		memcpy(out + at, piece, n);
		at += n;
		if (at + sizeof(QUOTE_DOTS) <= size)
			cut = at;
		s.p += taken;
		s.len -= taken;
	}
	if (s.len > 0) {
		at = cut;
		if (at + sizeof(QUOTE_DOTS) <= size)
			at = (size_t)(stpcpy(out + at, QUOTE_DOTS) - out);
	}
	out[at] = '\0';
	return out;
}

static bool refuse(struct complaint *c, const char *what, struct span got)
{
	return complain(c, ERROR_BAD_REQUEST, "%s, got %s", what, mp_type_name(got));
}

/* The params element: an array of at most one map, by then the last thing in the frame. */
static bool parse_params(struct span s, struct envelope *out, struct complaint *c)
{
	struct span rest = s;
	uint32_t n = 0, inner = 0;

	if (!mp_read_nil(&rest) && !mp_read_array(&rest, &n))
		return refuse(c, "params must be an array that holds one map", s);
	if (n > 1)
		return complain(c, ERROR_BAD_REQUEST, "params must be an array that holds one map, got an array of %u",
				n);
	if (n == 0)
		return true;
	s = rest;
	if (mp_read_nil(&rest) || (mp_read_array(&rest, &inner) && inner == 0))
		return true;
	rest = s;
	if (!mp_read_map(&rest, &inner))
		return refuse(c, "params must be an array that holds one map", s);
	if (inner > 0)
		out->params = s; /* no walk: what follows the header is the map, up to the end of the frame */
	return true;
}

static bool parse_method(struct span s, struct envelope *out, struct complaint *c)
{
	if (!mp_read_text(&s, &out->method))
		return refuse(c, "method must be a str", s);
	return parse_params(s, out, c);
}

static bool parse_id(struct span *s, struct envelope *out, struct complaint *c)
{
	if (out->type == ENVELOPE_RESPONSE && mp_read_nil(s))
		return true; /* to a message whose id could not be read */
	if (!mp_read_uint(s, &out->id))
		return refuse(c, "id must be an integer from 0 to 18446744073709551615", *s);
	out->has_id = true;
	return true;
}

static bool parse_request(struct span s, uint32_t n, struct envelope *out, struct complaint *c)
{
	if (n > 1 && !parse_id(&s, out, c))
		return false;
	if (n != 4)
		return complain(c, ERROR_BAD_REQUEST, "a request is [0, id, method, [params]]: 4 elements, got %u", n);
	return parse_method(s, out, c);
}

static bool parse_notification(struct span s, uint32_t n, struct envelope *out, struct complaint *c)
{
	if (n != 3)
		return complain(c, ERROR_BAD_REQUEST, "a notification is [2, method, [params]]: 3 elements, got %u", n);
	return parse_method(s, out, c);
}

static bool parse_response(struct span s, uint32_t n, struct envelope *out, struct complaint *c)
{
	if (n > 1 && !parse_id(&s, out, c))
		return false;
	if (n != 4 && n != 5)
		return complain(c, ERROR_BAD_REQUEST, "a response is [1, id, error, result]: 4 elements, got %u", n);
	if (!mp_read_any(&s, &out->error))
		return complain(c, ERROR_BAD_REQUEST, "a response is cut in its error");
	if (n == 4) {
		out->result = s;
		return true;
	}
	if (!mp_read_any(&s, &out->result))
		return complain(c, ERROR_BAD_REQUEST, "a response is cut in its result");
	if (strcmp(mp_type_name(s), "map") != 0)
		return refuse(c, "meta, the fifth element of a response, must be a map", s);
	out->meta = s;
	return true;
}

bool envelope_parse(struct span frame, struct envelope *out, struct complaint *c)
{
	struct span s = frame;
	uint64_t type;
	uint32_t n;

	*out = (struct envelope){ .type = ENVELOPE_REQUEST };
	if (!mp_read_array(&s, &n))
		return refuse(c, "a message must be an array [0, id, method, [params]]", s);
	if (n == 0)
		return complain(c, ERROR_BAD_REQUEST,
				"a message must be an array [0, id, method, [params]], got an empty one");
	if (!mp_read_uint(&s, &type))
		return refuse(c, "a message starts with 0 (request), 1 (response) or 2 (notification)", s);
	if (type > ENVELOPE_NOTIFICATION)
		return complain(c, ERROR_BAD_REQUEST,
				"a message starts with 0 (request), 1 (response) or 2 (notification), got %llu",
				(unsigned long long)type);
	out->type = (enum envelope_type)type;
	if (type == ENVELOPE_REQUEST)
		return parse_request(s, n, out, c);
	if (type == ENVELOPE_RESPONSE)
		return parse_response(s, n, out, c);
	return parse_notification(s, n, out, c);
}
