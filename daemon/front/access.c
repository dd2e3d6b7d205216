#include "daemon/front/access.h"

enum role access_role(uid_t uid, uid_t own_uid)
{
	return uid == 0 || uid == own_uid ? ROLE_ADMIN : ROLE_OBSERVE;
}
