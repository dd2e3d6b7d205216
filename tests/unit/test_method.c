#include <check.h>
#include <sys/socket.h>

#include "daemon/base/cleanup.h"
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "proto/pack.h"

/* A server without pools, and one connection. */
struct desk {
	struct loop *loop; /* owns */
	struct blob_pool blobs;
	struct registry registry;
	struct server server;
	int fd; /* owns: the client's end */
};

static void on_shutdown(struct server *s, bool now)
{
	(void)s, (void)now;
}

/* It stays as it is. */
static bool on_renew(struct server *s, const struct pool *p, bool dry, const struct pool_settings **to, char **why)
{
	(void)s, (void)dry, (void)why;
	*to = p->settings;
	return true;
}

/* There is nothing to see. */
static void on_show(struct server *s, msgpack_packer *pk)
{
	(void)s;
	pack_kv_text(pk, "files", NULL);
	pack_kv_text(pk, "options", NULL);
	pack_kv_text(pk, "access", NULL);
}

static void on_idle(struct server *s)
{
	loop_stop(s->loop);
}

static void desk_init(struct desk *d)
{
	static const struct server_ops ops = { .idle = on_idle, .renew = on_renew, .show = on_show, .shutdown = on_shutdown };
	const struct server_limits limits = { .max_frame = 65536 };
	const struct listener_peer peer = { .uid = geteuid() };
	int fds[2];

	blob_pool_init(&d->blobs);
	registry_init(&d->registry);
	d->loop = loop_new();
	ck_assert_ptr_nonnull(d->loop);
	server_init(&d->server, d->loop, &d->blobs, &d->registry, NULL, 0, &limits, &ops);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	d->fd = fds[1];
	server_listener_ops.accepted(&d->server.listener, fds[0], &peer);
}

static void desk_deinit(struct desk *d)
{
	server_deinit(&d->server);
	d->loop = loop_free(d->loop);
	cleanup_close(&d->fd);
	registry_deinit(&d->registry);
	blob_pool_deinit(&d->blobs);
}

/* What a function finds in variables that it has not set. */
static void __attribute__((noinline)) dirty_stack(void)
{
	volatile uint8_t dirt[32768];

	for (size_t i = 0; i < sizeof(dirt); i++)
		dirt[i] = 0x5a;
}

/* Refused before it is looked at closely. */
static void desk_ask(struct desk *d, void (*method)(struct query *q), const char *pool)
{
	struct query q = { .client = d->server.clients, .id = 7 };

	if (pool) {
		q.params.has = PARAM_BIT(PARAM_POOL);
		q.params.pool = span_str(pool);
	}
	dirty_stack();
	method(&q);
	ck_assert_uint_eq(d->server.clients->stream.frames_out, 1);
}

START_TEST(hello_that_is_refused_frees_only_what_it_has)
	{
		struct desk d;

		desk_init(&d);
		desk_ask(&d, method_hello, NULL);
		desk_deinit(&d);
	}
END_TEST

START_TEST(logs_of_an_unknown_pool_free_only_what_they_have)
	{
		struct desk d;

		desk_init(&d);
		desk_ask(&d, method_logs, "none");
		desk_deinit(&d);
	}
END_TEST

/* What the client reads when the daemon has had a turn. */
static const char *desk_tell(struct desk *d, struct span message, char answer[1024])
{
	struct client *c = d->server.clients;
	const struct slice body = { .span = message };
	ssize_t n;

	router_take(c, &body);
	client_close_flushed(c);
	loop_run(d->loop); /* until the connection is gone: on_idle() */
	n = read(d->fd, answer, 1023);
	ck_assert_int_gt(n, 0);
	answer[n] = '\0';
	return answer;
}

START_TEST(whoever_has_no_role_is_denied_and_told_which_one_it_takes)
	{
		struct desk d;
		char answer[1024];

		desk_init(&d);
		d.server.clients->grant = (struct access_grant){ .role = ROLE_NONE };
		ck_assert_ptr_nonnull(strstr(desk_tell(&d, SPAN_LIT("\x94\x00\x01\xa6status\x90"), answer),
					     "denied: status needs the role observe"));
		desk_deinit(&d);
	}
END_TEST

START_TEST(a_stack_is_shown_to_admins_only)
	{
		struct desk d;
		char answer[1024];

		desk_init(&d);
		d.server.clients->grant = (struct access_grant){ .role = ROLE_OBSERVE, .highest = ROLE_OBSERVE };
		ck_assert_ptr_nonnull(
			strstr(desk_tell(&d, SPAN_LIT("\x94\x00\x01\xacworker.stack\x91\x81\xa6worker\x01"), answer),
			       "denied: worker.stack needs the role admin"));
		desk_deinit(&d);
	}
END_TEST

START_TEST(a_stack_is_that_of_a_worker)
	{
		struct desk d;
		char answer[1024];

		desk_init(&d);
		ck_assert_ptr_nonnull(strstr(desk_tell(&d, SPAN_LIT("\x94\x00\x01\xacworker.stack\x90"), answer),
					     "bad_request: worker.stack needs worker: the number of a worker"));
		desk_deinit(&d);
	}
END_TEST

START_TEST(a_worker_that_never_was_and_one_that_is_forgotten_have_no_stack)
	{
		static const char *const expected[] = { "there has been no worker 0 yet",
							"worker 3 is dead and not known any more",
							"there has been no worker 4 yet" };
		static const uint8_t numbers[] = { 0, 3, 4 };

		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
			char message[] = "\x94\x00\x01\xacworker.stack\x91\x81\xa6worker\x01", answer[1024];
			struct desk d;

			desk_init(&d);
			d.registry.last_worker = 3;
			message[sizeof(message) - 2] = (char)numbers[i];
			ck_assert_ptr_nonnull(strstr(desk_tell(&d, (struct span){ (uint8_t *)message, sizeof(message) - 1 }, answer),
						     expected[i]));
			desk_deinit(&d);
		}
	}
END_TEST

START_TEST(a_refusal_says_which_session_was_named)
	{
		struct desk d;
		char answer[1024];

		desk_init(&d);
		d.server.clients->speaks = true;
		ck_assert_ptr_nonnull(strstr(desk_tell(&d,
						       SPAN_LIT("\x94\x00\x01\xabsession.get\x91\x82"
								"\xa7session\xa4"
								"cart"
								"\xa4pool\xa4"
								"fast"),
						       answer),
					     "\xa7session\xa4"
					     "cart"));
		desk_deinit(&d);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("method");
	TCase *t = tcase_create("method");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, hello_that_is_refused_frees_only_what_it_has);
	tcase_add_test(t, logs_of_an_unknown_pool_free_only_what_they_have);
	tcase_add_test(t, whoever_has_no_role_is_denied_and_told_which_one_it_takes);
	tcase_add_test(t, a_stack_is_shown_to_admins_only);
	tcase_add_test(t, a_stack_is_that_of_a_worker);
	tcase_add_test(t, a_worker_that_never_was_and_one_that_is_forgotten_have_no_stack);
	tcase_add_test(t, a_refusal_says_which_session_was_named);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
