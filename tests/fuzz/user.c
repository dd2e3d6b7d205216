#include "tests/fuzz/user.h"

#include <errno.h>
#include <sys/socket.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "proto/envelope.h"
#include "tests/fuzz/must.h"

void user_init(struct user *u, int fd, uint32_t max_frame)
{
	*u = (struct user){ .fd = fd };
	frame_reader_init(&u->out_reader, FRAME_UNKNOWN, max_frame);
}

void user_deinit(struct user *u)
{
	struct user_id *i, *next;

	HASH_ITER(hh, u->ids, i, next) {
		HASH_DEL(u->ids, i);
		free(i);
	}
	cleanup_close(&u->fd);
	frame_reader_deinit(&u->out_reader);
	frame_reader_deinit(&u->in_reader);
	free(u->out);
	free(u->in);
	*u = (struct user){ .fd = -1 };
}

void user_note_refused(struct user *u)
{
	u->bad = true;
	u->nil_asked = 1;
	frame_reader_init(&u->in_reader, FRAME_BARE, FRAME_MAX_LIMIT);
}

static struct user_id *user_id(struct user *u, uint64_t id)
{
	struct user_id *i;

	HASH_FIND(hh, u->ids, &id, sizeof(id), i);
	if (i)
		return i;
	i = MEM_NEW(struct user_id);
	i->id = id;
	HASH_ADD(hh, u->ids, id, sizeof(i->id), i);
	return i;
}

/* Every message but a good notification is answered. */
static void note_asked(struct user *u, struct span body)
{
	struct envelope e;
	struct complaint c;
	bool good = envelope_parse(body, &e, &c);

	if (good && e.type == ENVELOPE_NOTIFICATION)
		return;
	if (e.has_id)
		user_id(u, e.id)->asked++;
	else
		u->nil_asked++;
}

static void note_answered(struct user *u, struct span body)
{
	struct envelope e;
	struct complaint c;
	struct user_id *i;
	struct span error;

	MUST(envelope_parse(body, &e, &c), "a reply that is no message: %s", c.message);
	if (e.type == ENVELOPE_NOTIFICATION) {
		MUST(span_equals(e.method, "lease_lost"), "a notification that does not exist");
		return;
	}
	MUST(e.type == ENVELOPE_RESPONSE && !e.meta.len, "something that is no response");
	error = e.error;
	MUST(mp_read_nil(&error) || mp_type_name(error)[0] == 's' || mp_type_name(error)[0] == 'm',
	     "an error of type %s", mp_type_name(error));
	if (!e.has_id) {
		MUST(++u->nil_answered <= u->nil_asked, "an answer to nothing");
		return;
	}
	i = user_id(u, e.id);
	MUST(++i->answered <= i->asked, "answer %u to id %llu, which was sent %u times", i->answered,
	     (unsigned long long)e.id, i->asked);
}

static void buffer_add(uint8_t **buf, size_t *len, const void *bytes, size_t n)
{
	*buf = mem_resize(*buf, *len + n, 1);
	memcpy(*buf + *len, bytes, n);
	*len += n;
}

static void buffer_drop(uint8_t *buf, size_t *len, size_t n)
{
	*len -= n;
	memmove(buf, buf + n, *len);
}

static void parse_sent(struct user *u)
{
	struct frame f;

	while (!u->bad && u->out_len) {
		enum frame_status status = frame_next(&u->out_reader, u->out, u->out_len, &f);

		if (status == FRAME_MORE)
			return;
		u->bad = status != FRAME_READY;
		if (status == FRAME_READY) {
			note_asked(u, f.body);
			buffer_drop(u->out, &u->out_len, f.taken);
		} else if (status != FRAME_FOREIGN) {
			u->nil_asked++;
		}
	}
}

void user_send(struct user *u, struct span bytes)
{
	ssize_t n;

	if (!user_is_there(u) || u->half || !bytes.len)
		return;
	n = send(u->fd, bytes.p, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n <= 0)
		return; /* it is not read from, or closed */
	buffer_add(&u->out, &u->out_len, bytes.p, (size_t)n);
	parse_sent(u);
}

void user_half_close(struct user *u)
{
	if (!user_is_there(u) || u->half)
		return;
	(void)shutdown(u->fd, SHUT_WR); /* fails when the daemon has closed: all the same */
	u->half = true;
}

static unsigned parse_got(struct user *u)
{
	struct frame f;
	unsigned n = 0;

	if (u->in_reader.mode == FRAME_UNKNOWN)
		frame_reader_init(&u->in_reader, u->out_reader.mode, FRAME_MAX_LIMIT);
	while (u->in_len) {
		enum frame_status status = frame_next(&u->in_reader, u->in, u->in_len, &f);
		char text[FRAME_TEXT];

		if (status == FRAME_MORE)
			break;
		MUST(status == FRAME_READY, "the daemon sends a client what is no frame: %s",
		     frame_status_text(&u->in_reader, status, text));
		note_answered(u, f.body);
		buffer_drop(u->in, &u->in_len, f.taken);
		n++;
	}
	return n;
}

unsigned user_read(struct user *u)
{
	uint8_t bytes[16384];
	unsigned answers = 0;
	ssize_t n;

	while (user_is_there(u) && !u->lazy && !u->over) {
		n = recv(u->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			u->over = true;
			break;
		}
		buffer_add(&u->in, &u->in_len, bytes, (size_t)n);
		answers += parse_got(u);
	}
	return answers;
}

void user_note_time(struct user *u)
{
	u->at_risk |= u->lazy || u->out_len;
}

void user_check(const struct user *u)
{
	const struct user_id *i;

	if (!user_is_there(u) || u->bad || u->lazy || u->at_risk)
		return;
	MUST(u->half || !u->over, "closed without a reason");
	MUST(u->nil_answered == u->nil_asked, "%u answers without an id, and not %u", u->nil_answered, u->nil_asked);
	for (i = u->ids; i; i = i->hh.next)
		MUST(i->answered == i->asked, "%u answers to id %llu, which was sent %u times", i->answered,
		     (unsigned long long)i->id, i->asked);
	MUST(!u->in_len, "a reply that is cut");
}
