#include "tests/sim/small.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/sim/small_world.h"

static const struct {
	bool large; /* make check has no time for it */
	struct small_size size;
} worlds[] = {
	{ false, { "crashes", .clients = 3, .workers = 2, .crashes = 2 } },
	{ false, { "lease", .clients = 3, .workers = 2, .leases = 1, .crashes = 2 } },
	{ false, { "deadline", .clients = 2, .workers = 1, .crashes = 1, .cancels = 1, .ticks = 2 } },
	{ false, { "retry", .clients = 2, .workers = 2, .crashes = 3, .idempotent = true } },
	{ false, { "session", .clients = 2, .workers = 2, .sessions = 2, .leases = 1, .closes = 1, .hooks = true,
		   .crashes = 1 } },
	{ false, { "prefer", .clients = 3, .workers = 2, .sessions = 2, .crashes = 1, .prefer = true } },
	{ false, { "prefer-cancel", .clients = 2, .workers = 2, .sessions = 2, .closes = 1, .hooks = true, .cancels = 1,
		   .prefer = true } },
	{ false, { "template", .clients = 2, .workers = 1, .crashes = 2, .forks = true } },
	{ false, { "daemon", .clients = 2, .workers = 1, .sessions = 2, .crashes = 1, .deaths = 2 } },
	{ false, { "daemon-prefer", .clients = 2, .workers = 2, .sessions = 2, .deaths = 1, .prefer = true } },
	{ true, { "daemon-leases", .clients = 2, .workers = 1, .sessions = 1, .leases = 1, .crashes = 1, .deaths = 2 } },
	{ true, { "daemon-template", .clients = 2, .workers = 1, .sessions = 1, .crashes = 1, .deaths = 1, .forks = true } },
	{ true, { "daemon-clock", .clients = 2, .workers = 1, .sessions = 2, .ticks = 2, .deaths = 1 } },
	{ true, { "template-two", .clients = 2, .workers = 2, .crashes = 2, .forks = true } },
	{ true, { "template-clock", .clients = 1, .workers = 1, .crashes = 2, .ticks = 2, .forks = true } },
	{ true, { "cancel", .clients = 3, .workers = 2, .crashes = 2, .cancels = 1 } },
	{ true, { "clock", .clients = 3, .workers = 2, .crashes = 2, .ticks = 1 } },
	{ true, { "leave", .clients = 3, .workers = 2, .leases = 1, .crashes = 1, .cancels = 1, .gone = 1 } },
	{ true, { "lease-clock", .clients = 2, .workers = 2, .leases = 1, .crashes = 1, .gone = 1, .ticks = 1 } },
	{ true, { "session-crashes", .clients = 2, .workers = 2, .sessions = 2, .leases = 1, .crashes = 2 } },
	{ true, { "session-leave", .clients = 2, .workers = 2, .sessions = 2, .leases = 1, .closes = 1, .hooks = true,
		  .cancels = 1, .gone = 1 } },
	{ true, { "session-clock", .clients = 2, .workers = 2, .sessions = 2, .leases = 1, .crashes = 1, .ticks = 1 } },
	{ true, { "session-cancel", .clients = 2, .workers = 2, .sessions = 2, .crashes = 1, .cancels = 1, .ticks = 1 } },
	{ true, { "session-crowd", .clients = 3, .workers = 2, .sessions = 2, .leases = 1, .crashes = 1 } },
	{ true, { "session-recycled", .clients = 2, .workers = 1, .sessions = 2, .closes = 1, .hooks = true, .crashes = 1,
		  .ticks = 1, .recycled = true } },
	{ true, { "prefer-lease", .clients = 2, .workers = 2, .sessions = 2, .leases = 1, .closes = 1, .hooks = true,
		  .crashes = 1, .prefer = true } },
	{ true, { "prefer-retry", .clients = 3, .workers = 2, .sessions = 2, .crashes = 2, .idempotent = true,
		  .prefer = true } },
};

#define PATH_MAX_MOVES 200

/* A state that was found: the move that led to it, and from where. */
struct node {
	uint32_t parent, depth;
	struct move move;
	uint64_t onward; /* of the portraits that its moves lead to, in any order */
};

/* A second way to a state: a move from `parent` to what looks like `state`. */
struct meeting {
	uint32_t parent, state;
	struct move move;
};

/* A place of the hash table; a portrait of 0 is free. */
struct seen {
	uint64_t portrait;
	uint32_t node;
};

struct search {
	const struct small_size *size;
	struct node *nodes; /* owns */
	size_t n_nodes, room;
	struct seen *seen; /* owns: hash table, its size a power of 2 */
	size_t n_seen, n_places;
	struct meeting *meetings; /* owns */
	size_t n_meetings, meetings_room;
	uint64_t moves, finished;
	unsigned deepest;
};

static const char letters[MOVE_N] = { 'a', 'l', 'i', 'o', 'x', 'e', 'k', 'c', 'g', 't', 'r', 'd' };

/* --- what was seen --- */

static struct seen *find_place(struct seen *seen, size_t n_places, uint64_t portrait)
{
	size_t at = portrait & (n_places - 1);

	while (seen[at].portrait && seen[at].portrait != portrait)
		at = (at + 1) & (n_places - 1);
	return &seen[at];
}

static void grow_seen(struct search *s)
{
	size_t n = s->n_places ? 2 * s->n_places : 1024;
	struct seen *seen = mem_new(n * sizeof(*seen));

	for (size_t i = 0; i < s->n_places; i++) {
		if (s->seen[i].portrait)
			*find_place(seen, n, s->seen[i].portrait) = s->seen[i];
	}
	free(s->seen);
	s->seen = seen;
	s->n_places = n;
}

static void add_node(struct search *s, uint32_t parent, struct move m)
{
	if (s->n_nodes == s->room) {
		s->room *= 2;
		s->nodes = mem_resize(s->nodes, s->room, sizeof(*s->nodes));
	}
	s->nodes[s->n_nodes++] = (struct node){ .parent = parent, .move = m, .depth = s->nodes[parent].depth + 1 };
	if (s->nodes[parent].depth + 1 > s->deepest)
		s->deepest = s->nodes[parent].depth + 1;
}

static void add_meeting(struct search *s, uint32_t parent, struct move m, uint32_t state)
{
	if (s->n_meetings == s->meetings_room) {
		s->meetings_room = s->meetings_room ? 2 * s->meetings_room : 1024;
		s->meetings = mem_resize(s->meetings, s->meetings_room, sizeof(*s->meetings));
	}
	s->meetings[s->n_meetings++] = (struct meeting){ .parent = parent, .state = state, .move = m };
}

/* What a move from `parent` has led to. True: it is new. */
static bool see(struct search *s, uint64_t portrait, uint32_t parent, struct move m)
{
	struct seen *place;

	if (2 * s->n_seen >= s->n_places)
		grow_seen(s);
	place = find_place(s->seen, s->n_places, portrait);
	if (place->portrait) {
		add_meeting(s, parent, m, place->node);
		return false;
	}
	*place = (struct seen){ .portrait = portrait, .node = (uint32_t)s->n_nodes };
	s->n_seen++;
	add_node(s, parent, m);
	return true;
}

/* --- ways --- */

static unsigned way_to(const struct search *s, uint32_t node, struct move way[PATH_MAX_MOVES])
{
	unsigned n = s->nodes[node].depth;

	for (unsigned i = n; i; i--, node = s->nodes[node].parent)
		way[i - 1] = s->nodes[node].move;
	return n;
}

static void go(const struct search *s, const struct move *way, unsigned n, struct small_world *sw)
{
	small_world_init(sw, s->size);
	sw->checks = false; /* it was all well when we came this way before */
	for (unsigned i = 0; i < n; i++)
		(void)small_world_move(sw, way[i]);
	sw->checks = true;
}

static void print_violation(const struct small_world *sw, const struct move *way, unsigned n)
{
	printf("sim: small world %s: %s\nsim: the shortest way there (again: build/tests/sim --small %s --path ",
	       sw->size->name, sw->world->violation, sw->size->name);
	for (unsigned i = 0; i < n; i++)
		printf("%c%u", letters[way[i].kind], way[i].n);
	printf("):\n");
	trace_print(&sw->world->trace);
}

/* --- the search --- */

/* The way goes no further: what has been reached must also end well. False: a violation. */
static bool end_way(struct search *s, struct small_world *sw, const struct move *way, unsigned n, bool finish)
{
	if (!sw->world->violation[0]) {
		if (finish)
			small_world_finish(sw);
		else
			small_world_stop(sw);
		s->finished += finish;
	}
	if (sw->world->violation[0]) {
		print_violation(sw, way, n);
		return false;
	}
	small_world_free(sw);
	return true;
}

/* So that sums of them tell sets apart. */
static uint64_t mixed(uint64_t portrait)
{
	return sim_random_next(&(struct sim_random){ .state = portrait });
}

static bool try_moves(struct search *s, uint32_t node)
{
	struct move way[PATH_MAX_MOVES + 1], moves[MOVES_MAX];
	unsigned n = way_to(s, node, way), n_moves;
	struct small_world sw;

	go(s, way, n, &sw);
	n_moves = small_world_moves(&sw, moves);
	if (!n_moves)
		return end_way(s, &sw, way, n, false);
	for (unsigned i = 0; i < n_moves; i++) {
		bool is_new;

		if (i)
			go(s, way, n, &sw);
		way[n] = moves[i];
		(void)small_world_move(&sw, moves[i]);
		s->moves++;
		s->nodes[node].onward += mixed(small_world_portrait(&sw));
		is_new = see(s, small_world_portrait(&sw), node, moves[i]);
		if (!end_way(s, &sw, way, n + 1, is_new && small_world_is_calm(&sw)))
			return false;
	}
	return true;
}

static bool search_all(struct search *s)
{
	s->nodes = mem_new(sizeof(*s->nodes));
	s->n_nodes = s->room = 1;
	for (size_t i = 0; i < s->n_nodes; i++) {
		if (!try_moves(s, (uint32_t)i))
			return false;
	}
	return true;
}

/* --- the audit --- */

/* What a second way to a state leads to. */
static uint64_t look_onward(struct search *s, const struct move *way, unsigned n)
{
	struct move moves[MOVES_MAX];
	struct small_world sw;
	uint64_t sum = 0;
	unsigned n_moves;

	go(s, way, n, &sw);
	n_moves = small_world_moves(&sw, moves);
	for (unsigned i = 0; i < n_moves; i++) {
		if (i)
			go(s, way, n, &sw);
		(void)small_world_move(&sw, moves[i]);
		sum += mixed(small_world_portrait(&sw));
		small_world_stop(&sw);
		small_world_free(&sw);
	}
	if (!n_moves) {
		small_world_stop(&sw);
		small_world_free(&sw);
	}
	return sum;
}

static void print_way(const char *what, const struct move *way, unsigned n)
{
	printf("  %s ", what);
	for (unsigned i = 0; i < n; i++)
		printf("%c%u", letters[way[i].kind], way[i].n);
	printf("\n");
}

/* Is a state that was reached in two ways really one? Else the portrait forgets something. */
static bool audit(struct search *s)
{
	for (size_t i = 0; i < s->n_meetings; i++) {
		const struct meeting *m = &s->meetings[i];
		struct move way[PATH_MAX_MOVES + 1];
		unsigned n = way_to(s, m->parent, way);

		way[n] = m->move;
		if (look_onward(s, way, n + 1) == s->nodes[m->state].onward)
			continue;
		printf("sim: small world %s: two ways to the same portrait go on differently:\n", s->size->name);
		print_way("one:    ", way, n + 1);
		print_way("another:", way, way_to(s, m->state, way));
		return false;
	}
	return true;
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool search_world(const struct small_size *size, bool audited)
{
	struct search s = { .size = size };
	double begin = seconds();
	bool ok = search_all(&s);

	ok = ok && (!audited || audit(&s));
	printf("sim: small world %s: %u clients (%u with a lease, %u in a session), %u workers, %u crashes, %u closes, "
	       "%u cancels, %u gone, %u ticks, %u deaths of the daemon: %s: %zu states, %llu moves, %u deep at most, %llu calm states finished, %s, "
	       "%.1f s\n",
	       size->name, size->clients, size->leases, size->sessions, size->workers, size->crashes, size->closes,
	       size->cancels, size->gone, size->ticks, size->deaths, ok ? "complete" : "FAILED", s.n_seen, (unsigned long long)s.moves,
	       s.deepest, (unsigned long long)s.finished, audited ? "audited" : "not audited", seconds() - begin);
	(void)fflush(stdout);
	free(s.nodes);
	free(s.seen);
	free(s.meetings);
	return ok;
}

/* --- one way again --- */

static unsigned parse_way(const char *text, struct move way[PATH_MAX_MOVES])
{
	unsigned n = 0;

	while (*text && n < PATH_MAX_MOVES) {
		const char *letter = memchr(letters, *text, MOVE_N);
		char *end;

		if (!letter || !isdigit((unsigned char)text[1])) {
			(void)fprintf(stderr, "sim: no such move: %s\n", text);
			exit(2);
		}
		way[n++] = (struct move){ .kind = (uint8_t)(letter - letters), .n = (uint8_t)strtoul(text + 1, &end, 10) };
		text = end;
	}
	return n;
}

static bool walk_way(const struct small_size *size, const char *path)
{
	struct search s = { .size = size };
	struct move way[PATH_MAX_MOVES];
	unsigned n = parse_way(path, way);
	struct small_world sw;

	small_world_init(&sw, size);
	for (unsigned i = 0; i < n && !sw.world->violation[0]; i++) {
		if (!small_world_move(&sw, way[i]))
			printf("sim: move %u cannot be made\n", i + 1);
	}
	return end_way(&s, &sw, way, n, small_world_is_calm(&sw));
}

int small_run(const char *name, const char *path, bool audited)
{
	unsigned ran = 0, failed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(worlds); i++) {
		const struct small_size *size = &worlds[i].size;

		if (name ? strcmp(name, size->name) != 0 && strcmp(name, "all") != 0 : worlds[i].large)
			continue;
		ran++;
		failed += !(path ? walk_way(size, path) : search_world(size, audited));
	}
	printf("sim: %u small worlds passed, %u failed\n", ran - failed, failed);
	if (!ran)
		(void)fprintf(stderr, "sim: there is no small world \"%s\"\n", name);
	return failed || !ran;
}
