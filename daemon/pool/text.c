#include "daemon/pool/text.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/loop.h"
#include "proto/utf8.h"

const char *text_duration(uint64_t ns, char out[TEXT_DURATION])
{
	uint64_t ms = ns / NS_PER_MS;

	if (ms < 1000)
		(void)snprintf(out, TEXT_DURATION, "%llu ms", (unsigned long long)ms);
	else if (ms < 120 * 1000)
		(void)snprintf(out, TEXT_DURATION, "%llu.%llu s", (unsigned long long)ms / 1000,
			       (unsigned long long)ms % 1000 / 100);
	else
		(void)snprintf(out, TEXT_DURATION, "%llu min %llu s", (unsigned long long)ms / 60000,
			       (unsigned long long)ms / 1000 % 60);
	return out;
}

const char *text_signal(int signo, char out[TEXT_DURATION])
{
	const char *name = sigabbrev_np(signo);

	if (name)
		(void)snprintf(out, TEXT_DURATION, "SIG%s", name);
	else if (signo >= SIGRTMIN && signo <= SIGRTMAX)
		(void)snprintf(out, TEXT_DURATION, "SIGRTMIN+%d", signo - SIGRTMIN);
	else
		(void)snprintf(out, TEXT_DURATION, "signal %d", signo);
	return out;
}

void text_make_utf8(char *s)
{
	size_t left = strlen(s);

	while (left) {
		size_t n = utf8_char((struct span){ .p = (const uint8_t *)s, .len = left });

		if (!n) {
			*s = '?';
			n = 1;
		}
		s += n;
		left -= n;
	}
}

void text_pack_safe(msgpack_packer *pk, struct span s, size_t max)
{
	_cleanup_free_ char *safe = NULL;
	size_t used = 0;

	if (s.len > max) {
		s.p += s.len - max;
		s.len = max;
	}
	safe = mem_new(s.len * 3 + 1);
	while (s.len) {
		size_t n = utf8_char(s);

		if (n)
			memcpy(safe + used, s.p, n);
		else
			memcpy(safe + used, "\xef\xbf\xbd", 3);
		used += n ? n : 3;
		s.p += n ? n : 1;
		s.len -= n ? n : 1;
	}
	msgpack_pack_str(pk, used);
	msgpack_pack_str_body(pk, safe, used);
}
