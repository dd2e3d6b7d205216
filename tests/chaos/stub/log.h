/* The log that a stub worker keeps of itself, one line a write; main.c says what the letters mean. */
#pragma once

#include <stdint.h>

struct stub;

/* The clock of the log. */
uint64_t log_now_ns(void);
/* With the tag of the call in hand. Exits when it cannot be written. */
void log_note(const struct stub *s, char letter, uint64_t call);
