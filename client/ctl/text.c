#include "client/ctl/text.h"

#include <stdlib.h>

#include "proto/utf8.h"

void text_write(FILE *out, struct span text, bool lines)
{
	while (text.len > 0) {
		size_t n = utf8_char(text);
		bool layout = lines && (text.p[0] == '\n' || text.p[0] == '\t');

		if (n > 0 && (layout || !utf8_is_control(text))) {
			(void)fwrite(text.p, 1, n, out); /* a failed write shows in ferror() at the end */
		} else {
			n = n ? n : 1;
			for (size_t i = 0; i < n; i++)
				fprintf(out, "\\x%02x", text.p[i]);
		}
		text.p += n;
		text.len -= n;
	}
}

char *text_escape(struct span text)
{
	char *s = NULL;
	size_t n;
	FILE *out = open_memstream(&s, &n);

	if (!out)
		return NULL;
	text_write(out, text, false);
	if (fclose(out) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

void text_write_indented(FILE *out, struct span text, int indent)
{
	while (text.len > 0) {
		const uint8_t *end = memchr(text.p, '\n', text.len);
		size_t n = end ? (size_t)(end - text.p) : text.len;

		fprintf(out, "%*s", indent, "");
		text_write(out, (struct span){ .p = text.p, .len = n }, true);
		fputc('\n', out);
		n += end ? 1 : 0;
		text.p += n;
		text.len -= n;
	}
}
