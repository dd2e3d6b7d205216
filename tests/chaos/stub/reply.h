/* The replies of a stub worker, over its wire. Each of a session's calls writes the session's counts. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct stub;

/* cut: how many bytes of the end are left out. */
void reply_text(struct stub *s, uint64_t call, const char *text, size_t cut);
/* What it writes into its session must not be believed. */
void reply_error(struct stub *s, uint64_t call, const char *code);
/* Of a direct lease that is over. */
void reply_counts(struct stub *s, uint64_t call);
/* The good reply to the call in hand, which is noted. */
void reply_tag(struct stub *s);
