/* pypoolctl metrics --http: one request on stdin, one answer on stdout; a socket unit of systemd starts it for each
 * connection. The request is bounded, in bytes and in time. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/metrics.h"

#define HTTP_ROOM 8192
#define HTTP_MS 5000
#define HTTP_LINGER_MS 1000

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEXT_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define TEXT_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

enum http_status {
	HTTP_NOTHING = 0, /* the peer has gone without a word */
	HTTP_OK = 200,
	HTTP_BAD_REQUEST = 400,
	HTTP_NOT_FOUND = 404,
	HTTP_NOT_ALLOWED = 405,
	HTTP_TIMEOUT = 408,
	HTTP_TOO_LARGE = 431,
	HTTP_UNAVAILABLE = 503,
	HTTP_VERSION = 505,
};

static const char *http_reason(enum http_status s)
{
	switch (s) {
	case HTTP_OK:
		return "OK";
	case HTTP_NOT_FOUND:
		return "Not Found";
	case HTTP_NOT_ALLOWED:
		return "Method Not Allowed";
	case HTTP_TIMEOUT:
		return "Request Timeout";
	case HTTP_TOO_LARGE:
		return "Request Header Fields Too Large";
	case HTTP_UNAVAILABLE:
		return "Service Unavailable";
	case HTTP_VERSION:
		return "HTTP Version Not Supported";
	default:
		return "Bad Request";
	}
}

/* --- the request --- */

static bool http_is_whole(const char *text)
{
	return strstr(text, "\r\n\r\n") || strstr(text, "\n\n");
}

/* Up to its empty line, as a string. */
static enum http_status http_read(char text[HTTP_ROOM + 1])
{
	uint64_t end = ctl_now_ms() + HTTP_MS, now;
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	size_t n = 0;
	ssize_t r;

	while (n < HTTP_ROOM) {
		now = ctl_now_ms();
		if (now >= end)
			return HTTP_TIMEOUT;
		if (poll(&p, 1, (int)(end - now)) <= 0)
			continue; /* the clock decides */
		r = read(STDIN_FILENO, text + n, HTTP_ROOM - n);
		if (r < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (r <= 0)
			return n ? HTTP_BAD_REQUEST : HTTP_NOTHING;
		if (memchr(text + n, '\0', (size_t)r))
			return HTTP_BAD_REQUEST;
		n += (size_t)r;
		text[n] = '\0';
		if (http_is_whole(text))
			return HTTP_OK;
	}
	return HTTP_TOO_LARGE;
}

/* The first line: "GET /metrics HTTP/1.1". Cuts it into pieces. */
static enum http_status http_judge(char *line)
{
	char *save, *method = strtok_r(line, " ", &save), *target = strtok_r(NULL, " ", &save),
		    *version = strtok_r(NULL, " \r", &save);

	if (!version || strncmp(version, "HTTP/", 5) != 0 || strtok_r(NULL, "\r", &save))
		return HTTP_BAD_REQUEST;
	if (strcmp(version, "HTTP/1.0") != 0 && strcmp(version, "HTTP/1.1") != 0)
		return HTTP_VERSION;
	target[strcspn(target, "?")] = '\0';
	if (strcmp(target, "/metrics") != 0)
		return HTTP_NOT_FOUND;
	return strcmp(method, "GET") == 0 ? HTTP_OK : HTTP_NOT_ALLOWED;
}

static bool http_wants_openmetrics(char *headers)
{
	char *line;

	while ((line = strsep(&headers, "\n")))
		if (strncasecmp(line, "Accept:", 7) == 0 && strcasestr(line, "application/openmetrics-text"))
			return true;
	return false;
}

/* --- the answer --- */

/* Closing with something unread would be a reset, which may overtake the answer: the peer has a second to close first. */
static void http_linger(void)
{
	uint64_t end = ctl_now_ms() + HTTP_LINGER_MS, now;
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char rest[4096];

	if (fflush(stdout) != 0 || shutdown(STDOUT_FILENO, SHUT_WR) < 0)
		return; /* it has gone, or this is no socket */
	while ((now = ctl_now_ms()) < end && poll(&p, 1, (int)(end - now)) >= 0)
		if (p.revents && read(STDIN_FILENO, rest, sizeof(rest)) <= 0)
			return;
}

static int http_answer(enum http_status s, const char *type, const char *body, size_t n)
{
	printf("HTTP/1.1 %d %s\r\n%sContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", s,
	       http_reason(s), s == HTTP_NOT_ALLOWED ? "Allow: GET\r\n" : "", type, n);
	(void)fwrite(body, 1, n, stdout); /* a failed write shows in ferror() at the end */
	http_linger();
	return CTL_OK;
}

static int http_refuse(enum http_status s)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "%d %s%s\n", s, http_reason(s),
			 s == HTTP_UNAVAILABLE ? ": pypoold does not tell; the log of this service says why"
			 : s == HTTP_NOT_FOUND ? ": there is only /metrics"
					       : "");

	return http_answer(s, TEXT_PLAIN, text, (size_t)n);
}

static int http_tell(struct ctl *ctl, bool open)
{
	char *body = NULL;
	size_t n;
	FILE *out = open_memstream(&body, &n);
	int r;

	if (!out)
		return http_refuse(HTTP_UNAVAILABLE);
	r = metrics_ask(ctl, out, open);
	if (fclose(out) != 0 || r != CTL_OK)
		r = http_refuse(HTTP_UNAVAILABLE);
	else
		r = http_answer(HTTP_OK, open ? TEXT_OPENMETRICS : TEXT_METRICS, body, n);
	free(body);
	return r;
}

int metrics_serve(struct ctl *ctl)
{
	char text[HTTP_ROOM + 1] = "", *headers = text, *line;
	enum http_status s = http_read(text);

	if (s == HTTP_NOTHING)
		return CTL_OK;
	if (s != HTTP_OK)
		return http_refuse(s);
	line = strsep(&headers, "\n");
	s = http_judge(line);
	return s == HTTP_OK ? http_tell(ctl, http_wants_openmetrics(headers)) : http_refuse(s);
}
