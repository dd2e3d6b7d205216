/* The command, and what its checks have in common. */
#include "client/ctl/doctor.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "proto/pack.h"

static const char *const level_names[] = { [DOCTOR_OK] = "ok", [DOCTOR_WARNING] = "warning", [DOCTOR_ERROR] = "error" };

/* ---- findings */

static __attribute__((format(printf, 1, 0))) char *print_to_string(const char *format, va_list args)
{
	char *s;

	return vasprintf(&s, format, args) < 0 ? NULL : s;
}

void doctor_tell(struct doctor *d, enum doctor_level level, const char *check, const char *pool, const char *format, ...)
{
	struct doctor_finding *grown = reallocarray(d->findings, d->n + 1, sizeof(*grown));
	va_list args;

	if (!grown)
		return; /* and nothing else will be had either */
	d->findings = grown;
	grown[d->n] = (struct doctor_finding){ .level = level, .check = check, .pool = pool ? strdup(pool) : NULL };
	va_start(args, format);
	grown[d->n].message = print_to_string(format, args);
	va_end(args);
	d->n++;
}

void doctor_advise(struct doctor *d, const char *format, ...)
{
	struct doctor_finding *f = &d->findings[d->n - 1];
	va_list args;

	if (d->n == 0 || f->advice)
		return;
	va_start(args, format);
	f->advice = print_to_string(format, args);
	va_end(args);
}

static unsigned count_level(const struct doctor *d, enum doctor_level level)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->n; i++)
		n += d->findings[i].level == level;
	return n;
}

/* ---- what is known */

struct span doctor_option(struct span options, const char *name)
{
	return cell_of(cell_of(options, name), "value");
}

uint64_t doctor_number(struct span options, const char *name)
{
	struct span value = doctor_option(options, name);
	uint64_t n;

	return mp_read_uint(&value, &n) ? n : 0;
}

char *doctor_text(struct span value)
{
	struct span text;

	return mp_read_text(&value, &text) ? strndup((const char *)text.p, text.len) : NULL;
}

char **doctor_list(struct span value)
{
	struct span item;
	char **list;
	uint32_t n;

	if (!mp_read_array(&value, &n))
		n = 0;
	list = calloc((size_t)n + 1, sizeof(*list));
	for (uint32_t i = 0; list && i < n && mp_read_any(&value, &item); i++) {
		list[i] = doctor_text(item);
		if (!list[i])
			break;
	}
	return list;
}

void doctor_list_free(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

void doctor_each(struct doctor *d, struct span list, void (*one)(struct doctor *d, struct span map, const char *name))
{
	struct span map;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &map); n--) {
		char *name = doctor_text(cell_of(map, "name"));

		if (name)
			one(d, map, name);
		free(name);
	}
}

void doctor_each_pool(struct doctor *d, void (*one)(struct doctor *d, struct span options, const char *name))
{
	struct span pools = cell_of(d->answers[ANSWER_CONFIG], "pools"), map;
	uint32_t n;

	if (!mp_read_array(&pools, &n))
		return;
	for (; n > 0 && mp_read_any(&pools, &map); n--) {
		char *name = doctor_text(cell_of(map, "name"));

		if (name)
			one(d, cell_of(map, "options"), name);
		free(name);
	}
}

uid_t doctor_worker_uid(const struct doctor *d, struct span options)
{
	struct span value = doctor_option(options, "user"), text;
	char number[16];
	uint64_t uid;

	if (mp_read_text(&value, &text) && text.len > 0 && text.len < sizeof(number)) {
		memcpy(number, text.p, text.len);
		number[text.len] = '\0';
		if (ctl_number(number, &uid) && uid < (uid_t)-1)
			return (uid_t)uid;
	}
	return d->uid;
}

uint64_t doctor_workers(struct doctor *d)
{
	struct span pools = cell_of(d->answers[ANSWER_CONFIG], "pools"), map;
	uint64_t sum = 0;
	uint32_t n;

	if (!mp_read_array(&pools, &n))
		return 0;
	for (; n > 0 && mp_read_any(&pools, &map); n--)
		sum += doctor_number(cell_of(map, "options"), "max_workers") + 1;
	return sum;
}

/* ---- the command */

static void print_text(const struct doctor *d)
{
	unsigned errors = count_level(d, DOCTOR_ERROR), warnings = count_level(d, DOCTOR_WARNING);

	for (unsigned i = 0; i < d->n; i++) {
		const struct doctor_finding *f = &d->findings[i];

		printf("%-8s %s: ", level_names[f->level], f->check);
		if (f->pool) {
			printf("pool ");
			text_write(stdout, span_str(f->pool), false);
			printf(": ");
		}
		text_write(stdout, span_str(f->message ? f->message : "-"), false);
		putchar('\n');
		if (f->advice)
			text_write_indented(stdout, span_str(f->advice), 9);
	}
	printf("%u error%s, %u warning%s\n", errors, errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
}

static void pack_finding(msgpack_packer *pk, const struct doctor_finding *f)
{
	msgpack_pack_map(pk, 5);
	pack_kv_text(pk, "check", f->check);
	pack_kv_text(pk, "level", level_names[f->level]);
	pack_kv_text(pk, "pool", f->pool);
	pack_kv_text(pk, "message", f->message);
	pack_kv_text(pk, "advice", f->advice);
}

static void print_json(const struct doctor *d)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 3);
	pack_kv_uint(&pk, "errors", count_level(d, DOCTOR_ERROR));
	pack_kv_uint(&pk, "warnings", count_level(d, DOCTOR_WARNING));
	pack_text(&pk, "findings");
	msgpack_pack_array(&pk, d->n);
	for (unsigned i = 0; i < d->n; i++)
		pack_finding(&pk, &d->findings[i]);
	json_print(stdout, (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
	putchar('\n');
	msgpack_sbuffer_destroy(&buf);
}

static void doctor_deinit(struct doctor *d)
{
	for (unsigned i = 0; i < d->n; i++) {
		free(d->findings[i].pool);
		free(d->findings[i].message);
		free(d->findings[i].advice);
	}
	free(d->findings);
	for (unsigned i = 0; i < ANSWER_N; i++)
		(void)pypool_reply_free(d->replies[i]);
	free(d->shown);
}

static void doctor_check(struct doctor *d)
{
	static void (*const checks[])(struct doctor *d) = {
		doctor_check_socket, doctor_check_daemon,  doctor_check_files,  doctor_check_pools, doctor_check_python,
		doctor_check_options, doctor_check_limits, doctor_check_memory, doctor_check_unit,
	};

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](d);
}

int command_doctor(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "imports", no_argument, NULL, 'i' },
						 { "config", required_argument, NULL, 'c' },
						 { "unit", required_argument, NULL, 'u' },
						 { NULL, 0, NULL, 0 } };
	struct doctor d = { .ctl = ctl, .uid = geteuid() };
	int c, r;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) != -1) {
		if (c == 'i')
			d.imports = true;
		else if (c == 'c')
			d.file = optarg;
		else if (c == 'u')
			d.unit = optarg;
		else
			return c == 'h' ? CTL_OK : CTL_USAGE;
	}
	if (optind < argc)
		return ctl_usage(ctl, "no argument is expected, got '%s'", argv[optind]);
	doctor_check(&d);
	if (ctl->json)
		print_json(&d);
	else
		print_text(&d);
	r = count_level(&d, DOCTOR_ERROR) ? CTL_FAILED : CTL_OK;
	doctor_deinit(&d);
	return r;
}
