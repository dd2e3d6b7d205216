/* The control socket of a stub worker. */
#pragma once

#include <stdint.h>

struct stub;

/* A notification with one pair of its own, and with what hello, ready and pong have in common. */
void control_tell(const char *name, const char *key, uint64_t value);
/* One message; leaves when told to, or when the daemon is gone. */
void control_serve(struct stub *s);
