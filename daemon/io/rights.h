/* One fd that goes beside the bytes of a sendmsg(). The kernel makes the copy of it that the receiver gets. */
#pragma once

#include <string.h>
#include <sys/socket.h>

struct rights {
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))];
};

/* r must live until m has been sent. */
static inline void rights_attach(struct rights *r, struct msghdr *m, int fd)
{
	struct cmsghdr *c;

	memset(r, 0, sizeof(*r));
	m->msg_control = r->room;
	m->msg_controllen = sizeof(r->room);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
}
