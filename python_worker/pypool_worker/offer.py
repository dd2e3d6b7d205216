"""The offer: what `ready` says, packed ahead. A template packs one for all its workers, which have only to add the time."""
from __future__ import annotations

import time
from typing import Any, List, Optional

from pypool_worker.codec import Codec
from pypool_worker.packets import PACKET_MAX, fitting

READY = b"\x93\x02\xa5ready\x91"  # [2, "ready", [...]], of which the map follows
MAP = 0x80  # of up to 15 pairs
ROOM = 200  # bytes of a packet, for all but the targets' names and what an audit told


class Offer:
    """Of one process, which is ready once and says so again to each daemon that adopts it."""

    def __init__(self, codec: Codec, targets: List[str], idempotent: List[str], **audit: Any) -> None:
        """`audit`: what a template adds. More targets than a packet holds are left out of the lists; they can be called
        nevertheless."""
        self._codec = codec
        self._pairs = 0
        self._packed = b""
        self._ready = False
        for key, value in audit.items():
            self._add(key, value)
        self._add("idempotent", fitting(idempotent, PACKET_MAX // 2))
        self._add("targets", fitting(targets, PACKET_MAX - ROOM - len(self._packed)))

    def message(self, session_close: bool, adopted: Optional[int]) -> bytes:
        """The packet. `session_close`: whether there are hooks, as it was the first time. `adopted`: the seq of the
        daemon's successor that is told so."""
        if not self._ready:
            self._ready = True
            self._add("session_close", session_close)
            self._add("t_ns", time.monotonic_ns())
        if adopted is None:
            return READY + bytes((MAP + self._pairs,)) + self._packed
        return READY + bytes((MAP + self._pairs + 1,)) + self._packed + self._pair("adopted", adopted)

    def _add(self, key: str, value: Any) -> None:
        self._packed += self._pair(key, value)
        self._pairs += 1

    def _pair(self, key: str, value: Any) -> bytes:
        return self._codec.pack([key, value])[1:]
