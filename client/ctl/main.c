/* pypoolctl [--socket P] [--json] COMMAND: options before the command, then the command has the word. */
#include <locale.h>
#include <string.h>

#include "client/ctl/ctl.h"

static int main_run(struct ctl *ctl, int argc, char **argv)
{
	static char name[64];

	ctl->command = command_find(argv[0]);
	if (!ctl->command) {
		fprintf(stderr, "pypoolctl: no command '%s'; try 'pypoolctl help'\n", argv[0]);
		return CTL_USAGE;
	}
	(void)snprintf(name, sizeof(name), "pypoolctl %s", argv[0]); /* fits */
	argv[0] = name; /* for what getopt complains of */
	optind = 0; /* glibc: start afresh with another argv */
	return ctl->command->run(ctl, argc, argv);
}

static int main_help(struct ctl *ctl)
{
	char *argv[] = { (char *)"help", NULL };

	return main_run(ctl, 1, argv);
}

static int main_options(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "+s:hV", options, NULL)) != -1) {
		if (c == 's') {
			ctl->socket = optarg;
		} else if (c == 'j') {
			ctl->json = true;
		} else if (c == 'h') {
			return main_help(ctl);
		} else if (c == 'V') {
			printf("pypoolctl %s\n", PYPOOL_VERSION);
			return CTL_OK;
		} else {
			return CTL_USAGE;
		}
	}
	if (optind >= argc) {
		fprintf(stderr, "pypoolctl: no command; try 'pypoolctl help'\n");
		return CTL_USAGE;
	}
	return main_run(ctl, argc - optind, argv + optind);
}

int main(int argc, char **argv)
{
	struct ctl ctl = { 0 };
	int r;

	(void)setlocale(LC_CTYPE, ""); /* widths in tables; numbers stay as in C. Without the locale: ASCII */
	r = main_options(&ctl, argc, argv);
	ctl.pool = pypool_free(ctl.pool);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "pypoolctl: cannot write the output\n");
		return r == CTL_OK ? CTL_FAILED : r;
	}
	return r;
}
