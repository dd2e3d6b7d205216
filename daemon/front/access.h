/* Which role a peer has. */
#pragma once

#include <sys/types.h>

#include "proto/methods.h"

/* Root and the daemon's own uid administer; whoever else the socket's mode lets in may use and observe. */
enum role access_role(uid_t uid, uid_t own_uid);
