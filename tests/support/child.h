/* A child process under test, and what was told of it. Children are /bin/sh, or the test program itself with the name of a
 * helper as its argument. */
#pragma once

#include "daemon/io/process.h"
#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

struct child {
	struct process process;
	int calls;
	unsigned exits, packets, control_ends, dumps;
	struct process_exit how;
	char packet[256], dump[70000];
	size_t dump_len;
	bool dump_complete, stop_at_packet, stop_at_dump, stop_at_control_end;
	uint64_t told; /* lines */
};

/* What the program does as a child. */
struct child_helper {
	const char *name; /* NULL: the end of the table */
	void (*run)(void);
};

extern struct loop *child_loop; /* of the running test */

/* The begin of main(): does not return in a child. False: such tests cannot run here. */
bool child_main(int argc, char **argv, const struct child_helper *helpers);
void child_setup(void);
void child_teardown(void);

/* For helpers. */
void child_say(const char *text);

struct process_spec child_spec(char *const *argv);
void child_init(struct child *c);
void child_deinit(struct child *c);
int child_start(struct child *c, const struct process_spec *spec);
void child_start_shell(struct child *c, const char *script);
/* One of the table, or "wait": until the test closes its calls. */
void child_start_helper(struct child *c, const char *name);
char *child_self(void);

void child_line(const struct child *c, uint64_t number, char *out, size_t size);
void child_line_check(const struct child *c, uint64_t number, const char *want);

/* For tests with ops of their own. */
void child_on_exited(struct process *p, const struct process_exit *how);
void child_on_control_closed(struct process *p);
void child_on_output(struct process *p);
