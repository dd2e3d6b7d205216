#include "daemon/front/access.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/front/descent.h"

#define GROUPS_USUAL 64
#define GROUPS_MAX 65536 /* NGROUPS_MAX of the kernel */

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* --- rules --- */

static bool is_in_group(const struct access_peer *peer, gid_t gid)
{
	bool found = peer->gid == gid;

	for (unsigned i = 0; i < peer->n_groups && !found; i++)
		found = peer->groups[i] == gid;
	return found;
}

static bool rule_lists(const struct access_rule *r, const struct access_peer *peer)
{
	bool found = r->everybody;

	for (unsigned i = 0; i < r->n_uids && !found; i++)
		found = r->uids[i] == peer->uid;
	for (unsigned i = 0; i < r->n_gids && !found; i++)
		found = is_in_group(peer, r->gids[i]);
	return found;
}

static bool rule_concerns(const struct access_rule *r, unsigned pool)
{
	bool found = !r->n_pools;

	for (unsigned i = 0; i < r->n_pools && !found; i++)
		found = r->pools[i] == pool;
	return found;
}

#define NO_POOL UINT_MAX

static enum role role_by_rules(const struct access *a, const struct access_peer *peer, unsigned pool)
{
	if (!a->n_rules)
		return ROLE_OBSERVE;
	for (unsigned i = 0; i < a->n_rules; i++) {
		if (rule_concerns(&a->rules[i], pool) && rule_lists(&a->rules[i], peer))
			return a->rules[i].role;
	}
	return ROLE_NONE;
}

static enum role role_for(const struct access *a, const struct access_peer *peer, unsigned pool)
{
	enum role role;

	if (!peer->is_suspect && (peer->uid == 0 || (peer->is_own && a->own_is_admin)))
		return ROLE_ADMIN;
	role = role_by_rules(a, peer, pool);
	return peer->is_suspect && role > ROLE_OBSERVE ? ROLE_OBSERVE : role;
}

struct access_grant access_judge(const struct access *a, const struct access_peer *peer, unsigned n_pools)
{
	struct access_grant g = { .role = role_for(a, peer, NO_POOL) };

	g.highest = g.role;
	for (unsigned i = 0; i < n_pools; i++) {
		enum role role = role_for(a, peer, i);

		if (role == g.role && !g.pools)
			continue;
		if (!g.pools) {
			g.pools = mem_new(n_pools);
			memset(g.pools, (int)g.role, n_pools);
		}
		g.pools[i] = (uint8_t)role;
		g.highest = role > g.highest ? role : g.highest;
	}
	return g;
}

void access_grant_deinit(struct access_grant *g)
{
	free(g->pools);
	g->pools = NULL;
}

/* --- what the kernel knows --- */

static bool wants_groups(const struct access *a)
{
	for (unsigned i = 0; i < a->n_rules; i++) {
		if (a->rules[i].n_gids)
			return true;
	}
	return false;
}

/* Those that the peer had at its connect(). Takes `usual` when they fit, else *more, which the caller frees. Without the
 * kernel's answer the peer is in none. */
static void read_groups(int fd, struct access_peer *peer, gid_t usual[GROUPS_USUAL], gid_t **more)
{
	socklen_t len = GROUPS_USUAL * sizeof(gid_t);
	int r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, usual, &len);

	peer->groups = usual;
	if (r < 0 && errno == ERANGE && len <= GROUPS_MAX * sizeof(gid_t)) {
		peer->groups = *more = mem_new(len);
		r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, *more, &len);
	}
	if (r < 0)
		LOG(WARN, "client.no_groups", KV("uid", peer->uid), KV("errno", errno));
	else
		peer->n_groups = len / sizeof(gid_t);
}

struct access_grant access_ask(const struct access *a, int fd, const struct access_peer *known, pid_t pid,
			       unsigned n_pools, struct descent *descent)
{
	struct access_peer peer = *known;
	_cleanup_free_ gid_t *more = NULL;
	gid_t usual[GROUPS_USUAL];
	struct access_grant g;

	if (wants_groups(a))
		read_groups(fd, &peer, usual, &more);
	g = access_judge(a, &peer, n_pools);
	if (g.highest < ROLE_ADMIN || !descent_is_ours(descent, pid, peer.uid))
		return g;
	access_grant_deinit(&g);
	peer.is_suspect = true;
	return access_judge(a, &peer, n_pools);
}
