#include "tests/fuzz/steps.h"

#include <errno.h>

#include "daemon/base/cleanup.h"
#include "proto/pack.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/still_loop.h"

#define MICROSECOND UINT64_C(1000)

/* --- clients --- */

static struct user *choose_user(struct world *w, struct food *f)
{
	unsigned byte = food_byte(f), i = byte % WORLD_USERS;

	if (!user_is_there(&w->users[i]))
		world_connect(w, i, byte & 0x80 ? 4711 : w->server.own_uid);
	return &w->users[i];
}

void step_connect(struct world *w, struct food *f)
{
	(void)choose_user(w, f);
}

void step_send(struct world *w, struct food *f)
{
	struct user *u = choose_user(w, f);

	user_send(u, food_chunk(f));
}

/* Values for the params; ids are few, so that they meet. */
static void pack_param(msgpack_packer *pk, enum param key, struct world *w, struct food *f)
{
	static const char *const targets[] = { "x", "app.slow", "app.work" };
	uint8_t byte = food_byte(f);

	switch (key) {
	case PARAM_TARGET:
		pack_text(pk, targets[byte % ARRAY_SIZE(targets)]);
		break;
	case PARAM_POOL:
		pack_text(pk, byte % 4 ? w->settings[byte % w->n_pools].name : "none");
		break;
	case PARAM_ARGS:
	case PARAM_FEATURES:
		msgpack_pack_array(pk, 1);
		msgpack_pack_bin(pk, byte * UINT32_C(12));
		for (unsigned i = 0; i < byte; i++)
			msgpack_pack_bin_body(pk, "twelve bytes", 12);
		break;
	case PARAM_TYPE:
		pack_text(pk, byte % 8 ? "anonymous" : "session");
		break;
	case PARAM_META:
	case PARAM_IDEMPOTENT:
	case PARAM_DIRECT:
		pack_bool(pk, byte & 1);
		break;
	case PARAM_TIMEOUT_MS:
	case PARAM_QUEUE_TIMEOUT_MS:
	case PARAM_TTL_MS:
		msgpack_pack_uint64(pk, (UINT64_C(1) << byte % 32) + byte / 32);
		break;
	case PARAM_PROTOCOL:
		msgpack_pack_uint64(pk, byte % 8 ? 1 : byte);
		break;
	case PARAM_CLIENT:
	case PARAM_SESSION:
	case PARAM_TRACEPARENT:
		pack_text(pk, "name");
		break;
	default:
		msgpack_pack_uint64(pk, byte % 16);
	}
}

static unsigned count_bits(uint64_t v)
{
	return (unsigned)__builtin_popcountll(v);
}

/* [0, id, method, [{keys chosen by a mask}]] */
static void pack_request(msgpack_packer *pk, struct world *w, struct food *f)
{
	const struct method_info *m = method_info(food_byte(f) % METHOD_N);
	unsigned id = food_byte(f) % 32, mask = food_byte(f);
	uint64_t keys = 0;

	for (unsigned key = 0, n = 0; key < PARAM_N; key++) {
		if (m->keys & PARAM_BIT(key) && mask >> n++ % 8 & 1)
			keys |= PARAM_BIT(key);
	}
	msgpack_pack_array(pk, 4);
	msgpack_pack_int(pk, ENVELOPE_REQUEST);
	msgpack_pack_uint64(pk, id);
	pack_text(pk, m->name);
	msgpack_pack_array(pk, 1);
	msgpack_pack_map(pk, count_bits(keys));
	for (unsigned key = 0; key < PARAM_N; key++) {
		if (!(keys & PARAM_BIT(key)))
			continue;
#define X(UPPER, field, kind) [PARAM_##UPPER] = #field,
		pack_text(pk, (const char *const[]){ PROTO_PARAMS(X) }[key]);
#undef X
		pack_param(pk, key, w, f);
	}
}

/* Its framing is that of what the client has sent before, or bare. */
void step_send_request(struct world *w, struct food *f)
{
	struct user *u = choose_user(w, f);
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;
	uint8_t prefix[FRAME_PREFIX];

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_request(&pk, w, f);
	if (u->out_reader.mode == FRAME_PREFIXED) {
		frame_put_prefix(prefix, (uint32_t)buf.size);
		user_send(u, (struct span){ .p = prefix, .len = sizeof(prefix) });
	}
	user_send(u, (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
}

void step_half_close(struct world *w, struct food *f)
{
	user_half_close(choose_user(w, f));
}

void step_leave(struct world *w, struct food *f)
{
	user_deinit(&w->users[food_byte(f) % WORLD_USERS]);
}

void step_lazy(struct world *w, struct food *f)
{
	struct user *u = choose_user(w, f);

	u->lazy = !u->lazy;
	u->at_risk = true;
}

/* --- the world --- */

void step_settle(struct world *w, struct food *f)
{
	(void)f;
	world_settle(w);
}

void step_pass(struct world *w, struct food *f)
{
	world_pass(w, MICROSECOND << food_byte(f) % 26);
}

void step_freeze(struct world *w, struct food *f)
{
	world_freeze(w, MICROSECOND << food_byte(f) % 26);
}

void step_drain(struct world *w, struct food *f)
{
	pool_drain(w->pools[food_byte(f) % w->n_pools]);
}

void step_spawn_error(struct world *w, struct food *f)
{
	static const int errors[] = { 0, -ENOENT, -EAGAIN };

	w->puppets.spawn_error = errors[food_byte(f) % ARRAY_SIZE(errors)];
}

/* --- workers --- */

static struct puppet *choose_puppet(struct world *w, struct food *f)
{
	return puppets_at(&w->puppets, food_byte(f));
}

void step_get_ready(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);

	if (p)
		puppet_get_ready(p);
}

void step_reply(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);

	if (p)
		puppet_reply(p);
}

void step_reply_error(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	const char *code = error_name(1 + food_byte(f) % (ERROR_N - 1));

	if (p)
		puppet_reply_error(p, code, food_chunk(f));
}

void step_reply_raw(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	uint8_t body[3 + 8 + 255] = { food_byte(f) & 1 ? 0x95 : 0x94, ENVELOPE_RESPONSE, 0xcf };
	struct span rest = food_chunk(f);

	if (!p)
		return;
	puppet_read(p);
	for (unsigned i = 0; i < 8; i++)
		body[3 + i] = (uint8_t)(p->call >> (56 - 8 * i));
	if (rest.len)
		memcpy(body + 11, rest.p, rest.len);
	puppet_write_frame(p, (struct span){ .p = body, .len = 11 + rest.len });
}

/* A worker that is to leave anyway is left alone. */
static bool is_trusted(const struct puppet *p)
{
	return p->honest && !p->killed && !p->terminated && !p->asked;
}

void step_reply_wrong(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	uint8_t offset = 1 + food_byte(f) % 255;
	pid_t pid;

	if (!p || !is_trusted(p))
		return;
	puppet_read(p);
	if (!p->call)
		return;
	pid = p->process->pid;
	p->call += offset;
	puppet_reply(p);
	world_settle(w);
	MUST(!puppets_find(&w->puppets, pid), "a worker answers another call and lives on");
}

void step_write(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	struct span bytes = food_chunk(f);

	if (p)
		puppet_write(p, bytes);
}

void step_write_frame(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	struct span body = food_chunk(f);

	if (p)
		puppet_write_frame(p, body);
}

void step_control(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	struct span message = food_chunk(f);

	if (p)
		puppet_control(p, message);
}

void step_tell(struct world *w, struct food *f)
{
	static const char *const names[] = { "hello", "phase", "ready", "failed", "pong", "whatever" };
	struct puppet *p = choose_puppet(w, f);
	const char *name = names[food_byte(f) % ARRAY_SIZE(names)];
	struct span map = food_chunk(f);

	if (p)
		puppet_tell(p, name, map);
}

void step_print(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	bool is_stderr = food_byte(f) & 1;
	struct span text = food_chunk(f);

	if (p)
		puppet_print(p, is_stderr, text);
}

void step_show_stack(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	struct span text = food_chunk(f);

	if (p)
		puppet_show_stack(p, text);
}

void step_close_calls(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);

	if (p)
		puppet_close_calls(p);
}

void step_exit(struct world *w, struct food *f)
{
	struct puppet *p = choose_puppet(w, f);
	uint8_t how = food_byte(f);

	if (p)
		puppet_exit(p, how < 128 ? how : -1, how < 128 ? 0 : how % 32 + 1);
}
