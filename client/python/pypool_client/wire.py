"""Messages as bytes: MessagePack, each behind its length in 4 bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

FRAME_MAX = 0x04FFFFFF  # of any daemon

_UNDECODABLE = (ValueError, TypeError, OverflowError, RecursionError, msgpack.OutOfData)


class BadReply(Exception):
    """These bytes are not the protocol."""


class Undecodable:
    """The result of a call is MessagePack, but Python has no value for it (a map whose key is a list, ...)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def encode(number: int, method: str, params: dict[str, Any]) -> bytes:
    """A request, without its length. Raises TypeError, ValueError or OverflowError for values that cannot be sent."""
    body = msgpack.packb([0, number, method, [params]], use_bin_type=True)
    assert isinstance(body, bytes)
    return body


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """A message has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def messages(self) -> Iterator[list[Any]]:
        """The complete messages so far. Raises BadReply."""
        at = 0
        try:
            while len(self._buffer) - at >= 4:
                (length,) = struct.unpack_from(">I", self._buffer, at)
                if not 0 < length <= FRAME_MAX:
                    raise BadReply(f"a frame of length {length}")
                if len(self._buffer) - at - 4 < length:
                    break
                start, at = at + 4, at + 4 + length
                yield _message(self._buffer[start:at])
        finally:
            del self._buffer[:at]


def _message(body: bytearray) -> list[Any]:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except _UNDECODABLE as e:
        message = _envelope(body, str(e) or type(e).__name__)
    if not isinstance(message, list) or len(message) != {1: 4, 2: 3}.get(_kind(message)):
        raise BadReply(f"a message that is none: {message!r:.100}")
    return message


def _kind(message: list[Any]) -> int:
    return message[0] if message and type(message[0]) is int else -1


def _envelope(body: bytearray, reason: str) -> list[Any]:
    """What can be read of a successful response before its result."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=FRAME_MAX)
    unpacker.feed(body)
    try:
        if unpacker.read_array_header() != 4:
            raise ValueError(reason)
        kind, number, error = unpacker.unpack(), unpacker.unpack(), unpacker.unpack()
    except _UNDECODABLE:
        raise BadReply(f"not MessagePack: {reason}") from None
    if error is not None:
        raise BadReply(f"an error that cannot be read: {reason}")
    return [kind, number, None, Undecodable(reason)]
