/* Clients of all kinds against the front, the pools and the streams, with workers that mostly behave. */
#include "tests/fuzz/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A corpus depends on the order: add at the end. */
static const struct world_step steps[] = {
	{ step_connect },     { step_send },      { step_send_request }, { step_half_close },  { step_leave },
	{ step_lazy },        { step_settle },    { step_pass },         { step_freeze },      { step_drain },
	{ step_spawn_error }, { step_get_ready }, { step_reply },        { step_reply_error }, { step_print },
	{ step_show_stack },  { step_exit },      { step_reply_wrong },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct food f = { .left = { .p = data, .len = len } };
	struct world w;
	unsigned size = food_byte(&f);

	world_init(&w, 1 + (size & 1), 1 + (size >> 1 & 1));
	world_run(&w, steps, sizeof(steps) / sizeof(steps[0]), &f);
	world_end(&w);
	return 0;
}
