/* Fds that go beside the bytes of a sendmsg(). The kernel makes the copies of them that the receiver gets. */
#pragma once

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define RIGHTS_MAX 8

struct rights {
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
};

/* r must live until m has been sent. */
static inline void rights_attach(struct rights *r, struct msghdr *m, const int *fds, unsigned n)
{
	struct cmsghdr *c;

	assert(n && n <= RIGHTS_MAX);
	memset(r, 0, sizeof(*r));
	m->msg_control = r->room;
	m->msg_controllen = CMSG_SPACE(n * sizeof(int));
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
}
