/* Waiting until a pool is as it was told to be. */
#pragma once

#include "client/ctl/ctl.h"

enum wait_state {
	WAIT_ON,
	WAIT_DONE,
	WAIT_FAILED, /* it will not be, and text says why */
};

#define WAIT_TEXT 400

/* Looks at a pool, as the method pools shows it; text: what is left, for people. */
typedef enum wait_state wait_fn(struct span pool, char text[WAIT_TEXT]);

/* Asks every 100 ms, and shows on a terminal what is left. An enum ctl_exit. */
int wait_for(struct ctl *ctl, struct span name, wait_fn *look);
/* Nothing runs. */
enum wait_state wait_quiet(struct span pool, char text[WAIT_TEXT]);
/* All that were to be replaced are. */
enum wait_state wait_replaced(struct span pool, char text[WAIT_TEXT]);
/* As many workers as min_workers and max_workers say. */
enum wait_state wait_sized(struct span pool, char text[WAIT_TEXT]);
/* The worker of that number is dead. */
int wait_for_end(struct ctl *ctl, uint64_t id);
/* A method that is answered when it is done, and meanwhile on a terminal how far a reload is. As ctl_ask() with no time limit. */
int wait_for_reload(struct ctl *ctl, struct span name, struct pypool_span params, struct pypool_reply **reply);
