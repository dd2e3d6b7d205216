/* Durations, names and bytes of outsiders as text for people. */
#pragma once

#include <msgpack.h>

#include "proto/span.h"

#define TEXT_DURATION 32

/* "850 ms", "2.0 s", "4 min 10 s". Returns out. */
const char *text_duration(uint64_t ns, char out[TEXT_DURATION]);
/* "SIGKILL", "SIGRTMIN+3"; "signal 99" for what has no name. */
const char *text_signal(int signo, char out[TEXT_DURATION]);
/* Replaces, in place, what is no valid UTF-8 (a cut character at the end too) by '?'. */
void text_make_utf8(char *s);
/* Packs bytes as str; bytes that are no UTF-8 become U+FFFD. At most `max` bytes of s, keeping its end. */
void text_pack_safe(msgpack_packer *pk, struct span s, size_t max);
