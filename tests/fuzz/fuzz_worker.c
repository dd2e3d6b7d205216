/* A worker that says anything, on its call channel and over control, while a client has calls on it. */
#include "daemon/base/cleanup.h"
#include "proto/utf8.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A corpus depends on the order: add at the end. */
static const struct world_step steps[] = {
	{ step_get_ready },    { step_reply },   { step_reply_error }, { step_reply_raw }, { step_write },
	{ step_write_frame },  { step_control }, { step_tell },        { step_print },     { step_show_stack },
	{ step_close_calls },  { step_exit },    { step_settle },      { step_pass },      { step_freeze },
	{ step_send_request }, { step_leave },   { step_reply_wrong },
};

static bool is_utf8(const char *text)
{
	struct span s = span_str(text);

	while (s.len) {
		size_t n = utf8_char(s);

		if (!n)
			return false;
		s.p += n;
		s.len -= n;
	}
	return true;
}

/* A text may be NULL. */
static void check_text(const char *text)
{
	MUST(!text || is_utf8(text), "a text of the worker is not UTF-8: %s", text);
}

/* The bytes as one control packet for each stage of a handshake. */
static void check_handshake(struct span message)
{
	struct handshake h = { 0 };
	struct complaint c = { .message = "" };

	for (int stage = 0; stage < 3; stage++) {
		enum handshake_news news = handshake_take(&h, message, &c);

		MUST(news != HANDSHAKE_BROKEN || (c.message[0] && is_utf8(c.message)), "refused without a word");
		MUST(h.n_phases <= HANDSHAKE_PHASES, "%u phases", h.n_phases);
		h.hello = stage == 0;
	}
	for (unsigned i = 0; i < h.n_phases; i++) {
		check_text(h.phases[i].name);
		check_text(h.phases[i].module);
		MUST(!h.phases[i].ended || h.phases[i].ended >= h.phases[i].begun, "a phase ends before it begins");
	}
	check_text(h.python);
	check_text(h.codec);
	check_text(h.type);
	check_text(h.message);
	check_text(h.file);
	check_text(h.traceback);
	handshake_deinit(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t call[] = "\x94\x00\x21\xa7"
				      "execute\x91\x82\xa6target\xa1x\xa4meta\xc3";
	struct food f = { .left = { .p = data, .len = len } };
	struct world w;

	check_handshake(f.left);
	world_init(&w, 1, 1);
	world_connect(&w, 0, w.server.own_uid);
	user_send(&w.users[0], (struct span){ .p = call, .len = sizeof(call) - 1 });
	world_run(&w, steps, ARRAY_SIZE(steps), &f);
	world_end(&w);
	return 0;
}
