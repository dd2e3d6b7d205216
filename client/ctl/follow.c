#include "client/ctl/follow.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/cell.h"
#include "client/ctl/signals.h"
#include "proto/cursor.h"
#include "proto/pack.h"

static void follow_tell_dropped(const struct follow *f, struct span event)
{
	struct span dropped = cell_of(event, "dropped");
	uint64_t n;

	if (f->ctl->json || !mp_read_uint(&dropped, &n))
		return;
	(void)fflush(stdout); /* a failed write shows in ferror() at the end */
	fprintf(stderr, "pypoolctl: %llu %s were lost: they came faster than they were read\n", (unsigned long long)n, f->what);
}

static void follow_on_notify(struct pypool *p, const char *method, struct pypool_span params, void *data)
{
	struct follow *f = data;
	struct span event = { .p = params.data, .len = params.size };

	(void)p; /* it is that of f->ctl */
	if (strcmp(method, "event") != 0)
		return;
	follow_tell_dropped(f, event);
	f->told(f, event);
}

static void follow_pack(msgpack_sbuffer *b, char *const *kinds, size_t n_kinds, const char *pool)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, b, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, (size_t)(n_kinds > 0) + (pool != NULL));
	if (n_kinds) {
		pack_text(&pk, "kinds");
		msgpack_pack_array(&pk, n_kinds);
		for (size_t i = 0; i < n_kinds; i++)
			pack_text(&pk, kinds[i]);
	}
	if (pool) {
		pack_text(&pk, "pools");
		msgpack_pack_array(&pk, 1);
		pack_text(&pk, pool);
	}
}

int follow_begin(struct follow *f, char *const *kinds, size_t n_kinds, const char *pool)
{
	struct pypool_reply *reply;
	msgpack_sbuffer params;
	int r = ctl_connect(f->ctl);

	if (r != CTL_OK)
		return r;
	pypool_set_notify(f->ctl->pool, follow_on_notify, f);
	msgpack_sbuffer_init(&params);
	follow_pack(&params, kinds, n_kinds, pool);
	r = ctl_ask(f->ctl, "subscribe", (struct pypool_span){ params.data, params.size }, CTL_TIMEOUT_MS, &reply);
	msgpack_sbuffer_destroy(&params);
	if (r == CTL_OK)
		(void)pypool_reply_free(reply);
	return r;
}

static int follow_turn(struct follow *f, struct signals *s, bool *over)
{
	struct pypool *p = f->ctl->pool;
	struct pollfd fds[] = {
		{ .fd = pypool_fd(p), .events = pypool_events(p) },
		{ .fd = s->fd, .events = POLLIN },
		{ .fd = STDOUT_FILENO }, /* POLLERR: a pipe that nobody reads any more */
	};

	if (poll(fds, sizeof(fds) / sizeof(fds[0]), pypool_timeout_ms(p)) < 0 && errno != EINTR) {
		fprintf(stderr, "pypoolctl: poll failed: %s\n", strerrordesc_np(errno));
		return CTL_FAILED;
	}
	if (pypool_dispatch(p) < 0)
		return ctl_fail(f->ctl);
	*over = fflush(stdout) != 0 || fds[2].revents & POLLERR || signals_is_end(signals_take(s));
	return CTL_OK;
}

int follow_run(struct follow *f)
{
	struct signals signals;
	bool over = false;
	int r = CTL_OK;

	if (!signals_open(&signals, NULL)) {
		fprintf(stderr, "pypoolctl: signalfd failed: %s\n", strerrordesc_np(errno));
		return CTL_FAILED;
	}
	(void)fflush(stdout); /* a failed write shows in ferror() at the end */
	while (r == CTL_OK && !over)
		r = follow_turn(f, &signals, &over);
	(void)fflush(stdout);
	signals_close(&signals);
	return r;
}
