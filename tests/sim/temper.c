#include "tests/sim/temper.h"

#include <errno.h>
#include <signal.h>

#include "daemon/base/cleanup.h"

void temper_init(struct temper *t, struct sim_random *random)
{
	static const unsigned often[] = { 0, 0, 0, 1, 3, 10, 30, 100 };

	t->random = random;
	t->fixed = NULL;
	t->bad_init = often[sim_random_below(random, ARRAY_SIZE(often))];
	t->bad_spawn = sim_random_once_in(random, 4) ? 3 : 0;
	t->bad_call = often[sim_random_below(random, ARRAY_SIZE(often))];
	t->bad_manners = often[sim_random_below(random, ARRAY_SIZE(often))];
	t->bad_fork = t->forks ? often[sim_random_below(random, ARRAY_SIZE(often))] : 0;
}

void temper_calm(struct temper *t)
{
	t->bad_init = t->bad_spawn = t->bad_call = t->bad_manners = t->bad_fork = 0;
}

static uint64_t draw_ms(struct temper *t, uint64_t most)
{
	return sim_random_below(t->random, most * NS_PER_MS);
}

static void draw_template(struct temper *t, struct sim_script *s)
{
	s->fork_after = sim_random_once_in(t->random, 2) ? 0 : draw_ms(t, sim_random_once_in(t->random, 8) ? 1000 : 5);
	if (sim_random_once_in(t->random, t->bad_fork)) {
		s->unfit = sim_random_once_in(t->random, 2) ? "it has 2 threads" : NULL;
		s->stopped = sim_random_once_in(t->random, 2);
	}
}

int temper_draw_child(struct temper *t, struct sim_script *s)
{
	static const int signals[] = { SIGSEGV, SIGABRT, SIGKILL };

	if (t->fixed) {
		*s = *t->fixed;
		return 0;
	}
	*s = (struct sim_script){
		.hello_after = draw_ms(t, 30),
		.ready_after = draw_ms(t, sim_random_once_in(t->random, 4) ? 800 : 50),
		.hears_after = sim_random_once_in(t->random, 2) ? 0 : draw_ms(t, 5),
		.idempotent = sim_random_once_in(t->random, 2),
		.session_close = sim_random_once_in(t->random, 2),
		.shows_stack = !sim_random_once_in(t->random, 4),
		.ignores_go = !sim_random_below(t->random, 8),
		.exit_code = (int)sim_random_below(t->random, 3),
	};
	if (sim_random_once_in(t->random, 2))
		s->signal = signals[sim_random_below(t->random, ARRAY_SIZE(signals))];
	if (sim_random_once_in(t->random, t->bad_init))
		s->init = (enum sim_init)sim_random_between(t->random, SIM_INIT_MANUAL, SIM_INIT_N - 1);
	if (sim_random_once_in(t->random, t->bad_manners)) {
		s->ignores_interrupt = sim_random_once_in(t->random, 2);
		s->ignores_term = sim_random_once_in(t->random, 2);
		s->ignores_stop = sim_random_once_in(t->random, 2);
		s->closes_idle = sim_random_once_in(t->random, 4);
		s->closes_after = draw_ms(t, 1000);
	}
	if (t->forks)
		draw_template(t, s);
	return sim_random_once_in(t->random, t->bad_spawn) ? -EAGAIN : 0;
}

void temper_draw_fork(struct temper *t, struct sim_script *s)
{
	static const int errors[] = { EAGAIN, ENOMEM, EDEADLK };

	if (t->fixed)
		return;
	s->fork = SIM_FORK_ANSWER;
	s->fork_errno = errors[sim_random_below(t->random, ARRAY_SIZE(errors))];
	if (sim_random_once_in(t->random, t->bad_fork))
		s->fork = (enum sim_fork)sim_random_between(t->random, SIM_FORK_ERRNO, SIM_FORK_N - 1);
}

void temper_draw_call(struct temper *t, struct sim_script *s)
{
	if (t->fixed) {
		s->call = t->fixed->call;
		s->call_after = t->fixed->call_after;
		return;
	}
	s->call = SIM_CALL_REPLY;
	s->call_after = draw_ms(t, sim_random_once_in(t->random, 10) ? 3000 : 40);
	if (sim_random_once_in(t->random, 5))
		s->call_after = 0;
	if (!sim_random_once_in(t->random, t->bad_call))
		return;
	do {
		s->call = (enum sim_call)sim_random_below(t->random, SIM_CALL_N);
	} while (s->call == SIM_CALL_MANUAL);
}
