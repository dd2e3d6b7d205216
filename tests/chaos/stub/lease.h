/* A direct lease: calls over a socket that only its holder and the worker have. */
#pragma once

struct stub;

/* Serves its calls until the socket is at its end, or brings what is no message; then replies with their counts. */
void lease_serve(struct stub *s);
