/* What a keeper has is what another daemon would need now, no more and no less. */
#pragma once

struct world;

void invariants_check_kept(struct world *w);
