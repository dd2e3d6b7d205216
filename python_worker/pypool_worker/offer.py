"""The offer: what `ready` says."""
from __future__ import annotations

import time
from typing import Any, List, Optional

from pypool_worker.announcement import Announcement
from pypool_worker.codec import Codec
from pypool_worker.packets import PACKET_MAX, fitting

ROOM = 100  # bytes of a packet, for what is added when it is ready


class Offer:
    """Of one process, which is ready once and says so again to each daemon that adopts it. A template makes one for all
    its workers."""

    def __init__(self, codec: Codec, targets: List[str], idempotent: List[str], **audit: Any) -> None:
        """`audit`: what a template adds. More targets than a packet holds are left out of the lists; they can be called
        nevertheless."""
        self._ready = False
        self._said = Announcement(codec, "ready")
        self._said.add(**audit, idempotent=fitting(idempotent, PACKET_MAX // 2))
        self._said.add(targets=fitting(targets, PACKET_MAX - ROOM - self._said.size()))

    def message(self, session_close: bool, adopted: Optional[int]) -> bytes:
        """The packet. `session_close`: whether there are hooks, as it was the first time. `adopted`: the seq of the
        daemon's successor that is told so."""
        if not self._ready:
            self._ready = True
            self._said.add(session_close=session_close, t_ns=time.monotonic_ns())
        return self._said.message() if adopted is None else self._said.message(adopted=adopted)
