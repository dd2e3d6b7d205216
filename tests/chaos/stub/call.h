/* A call of a handler, whichever way it came. */
#pragma once

struct envelope;
struct stub;

/* s->call is its number, or that of its direct lease. Does what it asks for, or replies with an error. */
void call_run(struct stub *s, const struct envelope *e);
