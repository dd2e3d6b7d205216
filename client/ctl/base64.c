#include "client/ctl/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_print(FILE *out, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i += 3) {
		size_t left = bytes.len - i;
		uint32_t v = (uint32_t)bytes.p[i] << 16;

		v |= left > 1 ? (uint32_t)bytes.p[i + 1] << 8 : 0;
		v |= left > 2 ? (uint32_t)bytes.p[i + 2] : 0;
		fputc(alphabet[v >> 18], out);
		fputc(alphabet[v >> 12 & 63], out);
		fputc(left > 1 ? alphabet[v >> 6 & 63] : '=', out);
		fputc(left > 2 ? alphabet[v & 63] : '=', out);
	}
}

static int base64_digit(uint8_t c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

bool base64_decode(struct span text, uint8_t *out, size_t *n)
{
	size_t pad = 0;

	*n = 0;
	if (text.len % 4 != 0)
		return false;
	while (pad < 2 && pad < text.len && text.p[text.len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < text.len; i += 4) {
		size_t keep = i + 4 == text.len ? 3 - pad : 3;
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			int digit = k > keep ? 0 : base64_digit(text.p[i + k]);

			if (digit < 0)
				return false;
			v = v << 6 | (uint32_t)digit;
		}
		if (v & ((1u << (8 * (3 - keep))) - 1))
			return false; /* bits that belong to no byte */
		for (size_t k = 0; k < keep; k++)
			out[(*n)++] = (uint8_t)(v >> (16 - 8 * k));
	}
	return true;
}
