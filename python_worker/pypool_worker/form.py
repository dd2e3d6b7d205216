"""A form: what the plain calls of one target have in common to the byte, whatever their id and their arguments."""
from __future__ import annotations

import struct
from typing import Tuple

from pypool_worker.codec import Codec
from pypool_worker.registry import Handler

HEAD = struct.Struct(">IHB")  # of a frame: its length, what stands before the id, the first byte of the id
HEAD_REQUEST, HEAD_RESPONSE = 0x9400, b"\x94\x01"  # of four elements, the first of which is what it is
ID = 2  # where it stands in a message
FAR = 1 << 32  # behind everything


def _id_end(first: int) -> int:
    if first < 0x80:
        return ID + 1
    return ID + 1 + (1 << first - 0xcc) if 0xcc <= first <= 0xcf else FAR


ID_END: Tuple[int, ...] = tuple(map(_id_end, range(256)))  # by its first byte: where an id ends; FAR: it is none


class Form:
    """`[0, id, "execute", [{"target": target, "args": args}]]`, packed as short as can be, in this order: what stands
    between id and args.

    A call that is packed in another way is none of this form, and as good a call.
    """

    __slots__ = ("packed", "size", "target", "handler")

    def __init__(self, codec: Codec, target: str, handler: Handler) -> None:
        self.packed = codec.pack("execute") + b"\x91\x82" + b"".join(map(codec.pack, ("target", target, "args")))
        self.size = len(self.packed)
        self.target = target
        self.handler = handler


class NoForm(Form):
    """Nothing has this one."""

    __slots__ = ()

    def __init__(self) -> None:
        self.packed = b"\xc1"  # no MessagePack begins with it
        self.size = 0
        self.target = ""
