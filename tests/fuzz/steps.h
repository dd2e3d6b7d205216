/* Steps of a world's script. Each eats what it needs. */
#pragma once

#include "tests/fuzz/world.h"

/* Clients. The first byte names one; most steps open its connection when it has none. */
void step_connect(struct world *w, struct food *f);
void step_send(struct world *w, struct food *f);         /* a chunk, as it is */
void step_send_request(struct world *w, struct food *f); /* a method with well-formed params */
void step_half_close(struct world *w, struct food *f);
void step_leave(struct world *w, struct food *f);
void step_lazy(struct world *w, struct food *f); /* stops reading, or goes on */

/* The world. */
void step_settle(struct world *w, struct food *f);
void step_pass(struct world *w, struct food *f); /* 2^byte µs, up to a minute */
void step_freeze(struct world *w, struct food *f);
void step_drain(struct world *w, struct food *f);
void step_spawn_error(struct world *w, struct food *f);

/* Workers. The first byte names one of the living. */
void step_get_ready(struct world *w, struct food *f);
void step_reply(struct world *w, struct food *f);
void step_reply_error(struct world *w, struct food *f); /* a code of the table, and a chunk as its message */
void step_reply_raw(struct world *w, struct food *f);   /* [1, the call, and a chunk as the rest */
void step_reply_wrong(struct world *w, struct food *f); /* to a call that it does not have: it must not survive that */
void step_write(struct world *w, struct food *f);       /* a chunk on the call channel, as it is */
void step_write_frame(struct world *w, struct food *f);
void step_control(struct world *w, struct food *f); /* a chunk as one control packet */
void step_tell(struct world *w, struct food *f);    /* a known control message, and a chunk as its map */
void step_print(struct world *w, struct food *f);
void step_show_stack(struct world *w, struct food *f);
void step_close_calls(struct world *w, struct food *f);
void step_exit(struct world *w, struct food *f);
