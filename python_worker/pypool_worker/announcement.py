"""An announcement: a notification that is packed ahead, so that a forked worker has only to add what is its own."""
from __future__ import annotations

from typing import Any, Dict

from pypool_worker.codec import Codec

MAP = 0x80  # and the number of pairs, in one byte


class Announcement:
    """`[2, name, [{...}]]`, of which more and more is known. At most 15 pairs."""

    def __init__(self, codec: Codec, name: str) -> None:
        self._codec = codec
        self._head = b"\x93" + codec.pack([2, name])[1:] + b"\x91"
        self._pairs = 0
        self._packed = b""

    def add(self, **fields: Any) -> None:
        """They stay."""
        self._packed += self._pack(fields)
        self._pairs += len(fields)

    def size(self) -> int:
        """Bytes, of what is known so far."""
        return len(self._head) + 1 + len(self._packed)

    def message(self, **more: Any) -> bytes:
        """The packet. `more`: pairs that do not stay."""
        return self._head + bytes((MAP + self._pairs + len(more),)) + self._packed + self._pack(more)

    def _pack(self, fields: Dict[str, Any]) -> bytes:
        packed = b""
        for key, value in fields.items():
            packed += self._codec.pack([key, value])[1:]
        return packed
