/*
 * A simulated socket between a worker and a client: nobody's bytes go over it, it is open or over. sim_pair.c is the second
 * implementation of daemon/io/pair.h.
 */
#pragma once

#include "daemon/io/pair.h"

struct sim_child;
struct sim_pair;

/* Negative errno of each pair_open(); 0: they succeed. */
extern int sim_pair_error;

/* A child has received a copy of the worker's end, and drops it. */
struct sim_pair *sim_pair_receive(struct loop *l, int fd, struct sim_child *c);
void sim_pair_drop(struct sim_pair *p);
/* The worker ends it, for the client too. */
void sim_pair_shut(struct sim_pair *p);
/* The daemon is gone with its copies; what p is in is freed next. */
void sim_pair_cut(struct pair *p);
/* What a read of the worker's end finds is its end. */
bool sim_pair_is_over(const struct sim_pair *p);

/* The same at a client's end, which was taken from the daemon. */
bool sim_pair_client_is_over(struct loop *l, int fd);
void sim_pair_client_close(struct loop *l, int fd);
