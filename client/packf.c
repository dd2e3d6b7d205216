/* The printf-like packer: pypool_packf(&data, &size, "sid", "text", 1, 2.0). Two passes: the format is checked and its
 * containers are counted before a byte is written. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "client/handle.h"
#include "proto/pack.h"

#define PACKF_DEPTH 32

static const char *packf_skip(const char *f)
{
	while (*f == ' ' || *f == ',')
		f++;
	return f;
}

/* Elements from f to the bracket that closes its level (or to the end), *end is behind it. Negative: malformed. */
static int packf_count(const char *f, char close, int depth, const char **end)
{
	int n = 0;

	for (f = packf_skip(f); *f && *f != ']' && *f != '}'; f = packf_skip(f), n++) {
		if (*f == '[' || *f == '{') {
			bool map = *f == '{';
			int inner = depth < PACKF_DEPTH ? packf_count(f + 1, map ? '}' : ']', depth + 1, &f) : -1;

			if (inner < 0 || (map && inner % 2 != 0))
				return -1;
		} else if (strchr("stybiuIUdnm", *f)) {
			f++;
		} else {
			return -1;
		}
	}
	if (*f != close)
		return -1;
	*end = close ? f + 1 : f;
	return n;
}

static int packf_raw(msgpack_packer *pk, const void *data, size_t size)
{
	struct span s = { .p = data, .len = size };

	if (!data || cursor_check(s) != CURSOR_DONE)
		return -EINVAL;
	pack_raw(pk, s);
	return 0;
}

/* A va_list parameter may be an array: a struct makes it a thing that can be passed on. */
struct packf_args {
	va_list list;
};

static int packf_text(msgpack_packer *pk, const char *s, size_t n)
{
	if (!s && n > 0)
		return -EINVAL;
	if (n > UINT32_MAX)
		return -EINVAL;
	pack_text_n(pk, s ? s : "", n);
	return 0;
}

static int packf_bytes(msgpack_packer *pk, const void *data, size_t n)
{
	if ((!data && n > 0) || n > UINT32_MAX)
		return -EINVAL;
	msgpack_pack_bin(pk, n);
	msgpack_pack_bin_body(pk, data ? data : "", n);
	return 0;
}

static int packf_pair(msgpack_packer *pk, char letter, const void *data, size_t n)
{
	if (letter == 't')
		return packf_text(pk, data, n);
	return letter == 'y' ? packf_bytes(pk, data, n) : packf_raw(pk, data, n);
}

static int packf_scalar(msgpack_packer *pk, char letter, struct packf_args *a)
{
	const void *data;

	switch (letter) {
	case 's':
		data = va_arg(a->list, const char *);
		return data ? packf_text(pk, data, strlen(data)) : msgpack_pack_nil(pk);
	case 'b':
		pack_bool(pk, va_arg(a->list, int));
		return 0;
	case 'i':
		return msgpack_pack_int(pk, va_arg(a->list, int));
	case 'u':
		return msgpack_pack_unsigned_int(pk, va_arg(a->list, unsigned));
	case 'I':
		return msgpack_pack_int64(pk, va_arg(a->list, int64_t));
	case 'U':
		return msgpack_pack_uint64(pk, va_arg(a->list, uint64_t));
	case 'd':
		return msgpack_pack_double(pk, va_arg(a->list, double));
	case 'n':
		return msgpack_pack_nil(pk);
	default: /* t y m */
		data = va_arg(a->list, const void *);
		return packf_pair(pk, letter, data, va_arg(a->list, size_t));
	}
}

/* The format is well-formed: packf_count has seen all of it. */
static int packf_values(msgpack_packer *pk, const char *f, struct packf_args *a)
{
	for (f = packf_skip(f); *f; f = packf_skip(f + 1)) {
		const char *end;
		int r = 0, n;

		if (*f == ']' || *f == '}')
			continue;
		if (*f == '[' || *f == '{') {
			n = packf_count(f + 1, *f == '{' ? '}' : ']', 1, &end);
			r = *f == '{' ? msgpack_pack_map(pk, (size_t)n / 2) : msgpack_pack_array(pk, (size_t)n);
		} else {
			r = packf_scalar(pk, *f, a);
		}
		if (r < 0)
			return r == -EINVAL ? r : -ENOMEM;
	}
	return 0;
}

/* Positional: an array around all. "**{...}": the one map itself. */
static int packf_all(msgpack_packer *pk, const char *format, struct packf_args *a)
{
	const char *f = packf_skip(format), *end;
	bool keywords = f[0] == '*' && f[1] == '*';
	int n;

	if (keywords)
		f = packf_skip(f + 2);
	n = packf_count(f, '\0', 0, &end);
	if (n < 0 || (keywords && (n != 1 || *f != '{')))
		return -EINVAL;
	if (!keywords && msgpack_pack_array(pk, (size_t)n) < 0)
		return -ENOMEM;
	return packf_values(pk, f, a);
}

int pypool_vpackf(void **data, size_t *size, const char *format, va_list args)
{
	struct packf_args a;
	msgpack_sbuffer buffer;
	msgpack_packer pk;
	int r;

	if (!format)
		return -EINVAL;
	msgpack_sbuffer_init(&buffer);
	msgpack_packer_init(&pk, &buffer, msgpack_sbuffer_write);
	va_copy(a.list, args);
	r = packf_all(&pk, format, &a);
	va_end(a.list);
	if (r < 0) {
		msgpack_sbuffer_destroy(&buffer);
		return r;
	}
	*size = buffer.size;
	*data = msgpack_sbuffer_release(&buffer);
	return 0;
}

int pypool_packf(void **data, size_t *size, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = pypool_vpackf(data, size, format, args);
	va_end(args);
	return r;
}
