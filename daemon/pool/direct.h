/*
 * A direct lease: its client calls the worker over a socket of their own, with nobody in between. To the daemon it is one call in
 * the worker's slot that has no request: it begins with the lease, and the worker answers it, with how many calls it has served,
 * when that socket is at its end. The daemon holds the worker's end too, so that it can end the lease by itself.
 */
#pragma once

#include "proto/span.h"

struct lease;
struct outcome;
struct worker;

/* Makes the socket of a new lease, gives the worker its end and lets it begin. False: *o says why not (overloaded, or quota),
 * and nothing is left of it but the lease, which is no direct one. */
bool direct_open(struct lease *l, struct outcome *o);
/* The socket of one that has begun before this program was executed: the worker's end, taken. */
void direct_take_over(struct lease *l, int socket);
/* The lease ends: so does the socket, for all who hold an end of it. */
void direct_close(struct lease *l);
/* The daemon is leaving: what the client has sent is still served, and then the lease ends. */
void direct_drain(struct lease *l);
/* The worker has answered the call in its slot. result: {calls, errors}; empty after an error. Ends the lease, if it goes on. */
void direct_note_answer(struct worker *w, struct span result);
