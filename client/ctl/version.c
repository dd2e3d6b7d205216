/* pypoolctl version: what is here, and what answers on the socket. */
#include <stdlib.h>

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "client/ctl/json.h"
#include "proto/pack.h"

static void version_print_json(struct span hello)
{
	struct span version = cell_of(hello, "version");

	printf("{\"pypoolctl\": \"%s\", \"pypoold\": ", PYPOOL_VERSION);
	if (version.len > 0)
		json_print(stdout, version);
	else
		printf("null");
	printf("}\n");
}

int command_version(struct ctl *ctl, int argc, char **argv)
{
	struct pypool_span answer = { 0 };
	struct span hello, version;
	char *text;
	int r;

	if (!ctl_options(ctl, argc, argv, NULL, &r))
		return r;
	if (!ctl->json)
		printf("pypoolctl %s\n", PYPOOL_VERSION);
	r = ctl_connect(ctl);
	if (r == CTL_OK && pypool_hello(ctl->pool, &answer, CTL_TIMEOUT_MS) < 0)
		r = ctl_fail(ctl);
	hello = (struct span){ .p = answer.data, .len = answer.size };
	if (ctl->json) {
		version_print_json(hello);
		return r;
	}
	version = cell_of(hello, "version");
	text = version.len > 0 ? cell_any(version) : NULL;
	if (r == CTL_OK)
		printf("pypoold   %s\n", text ? text : "-");
	free(text);
	return r;
}
