"""The codec: msgpack, in C when the pool's interpreter has it, else the pure Python files that come with pypoold."""
from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any, Callable, Dict, Tuple, Union

from pypool_worker.errors import ProtocolError

PACKER_KEEP = 1 << 20
BIN_32 = b"\xc6"

Buffer = Union[bytes, bytearray, memoryview]


class Codec:
    """Packs and unpacks for one thread; the packer and its buffer are kept from one value to the next."""

    def __init__(self, msgpack: ModuleType) -> None:
        self._msgpack = msgpack
        # One whole value. Length limits are the frame's own; ValueError, TypeError (a key that cannot be one).
        self.unpack: Callable[[Buffer], Any] = partial(msgpack.unpackb, strict_map_key=False)
        # The same at the price of no keywords; refuses maps whose keys are no text, which unpack() may take.
        self.unpack_plain: Callable[[Buffer], Any] = msgpack.unpackb
        self.name = "c" if "_cmsgpack" in str(msgpack.Packer.__module__) else "python"
        self.pack_small: Callable[[Any], bytes] = msgpack.Packer().pack

    def another(self) -> Codec:
        """For another thread."""
        return Codec(self._msgpack)

    def pack(self, value: Any) -> bytes:
        """Raises whatever the value provokes; the codec stays usable. pack_small() is the same for what is known to be
        small, or for whoever calls trim() with what came out."""
        packed = self.pack_small(value)
        if len(packed) > PACKER_KEEP:
            self.trim(packed)
        return packed

    def trim(self, packed: bytes) -> None:
        """The packer's buffer has grown as large as this."""
        if len(packed) > PACKER_KEEP:
            self.pack_small = self._msgpack.Packer().pack

    def pack_around(self, before: Tuple[Any, ...], value: bytes, after: Tuple[Any, ...]) -> Tuple[bytes, bytes, bytes]:
        """The array of `before`, `value` and `after`, in three parts: `value` is not copied. From 64 KiB to 4 GiB."""
        count = (0x90 + len(before) + 1 + len(after)).to_bytes(1, "big")
        head = count + b"".join(map(self.pack_small, before)) + BIN_32 + len(value).to_bytes(4, "big")
        return head, value, b"".join(map(self.pack_small, after))

    def pack_before(self, before: Tuple[Any, ...], value: Any, after: bytes) -> Tuple[bytes, bytes, bytes]:
        """The array of `before`, `value` and `after`, which is packed already. Raises whatever the value provokes."""
        count = (0x90 + len(before) + 2).to_bytes(1, "big")
        return count + b"".join(map(self.pack_small, before)), self.pack([value])[1:], after

    def pack_raw_map(self, packed: Dict[str, bytes]) -> bytes:
        """A map of values that are packed already."""
        head: bytes = self._msgpack.Packer().pack_map_header(len(packed))
        return head + b"".join([part for key, value in packed.items() for part in (self.pack_small(key), value)])

    def unpack_apart(self, frame: Buffer, path: Tuple[str, ...], fields: Dict[str, Any]) -> Any:
        """`[.., .., .., [fields]]`, the map at `path` in fields left in pieces: its keys, and bytes for each value.

        Raises what unpack() raises; `fields` has what came before then. Copies the frame: for those few that need it.
        """
        unpacker = self._msgpack.Unpacker(raw=False, strict_map_key=False)
        unpacker.feed(frame)
        message = [unpacker.unpack() for _ in range(unpacker.read_array_header() - 1)]
        if unpacker.read_array_header() != 1:
            raise ValueError("more than one map of params")
        _map_apart(unpacker, frame, path, fields)
        message.append([fields])
        return message

    def check(self, frame: Buffer) -> None:
        """Raises an exception when the bytes are not one well-formed value, whatever Python can make of it."""
        unpacker = self._msgpack.Unpacker()
        unpacker.feed(frame)
        unpacker.skip()
        if unpacker.tell() != len(frame):
            raise ValueError("it ends before its frame")

    def unpack_head(self, frame: Buffer) -> Tuple[Any, Any]:
        """The first two elements of an array whose rest cannot be read."""
        unpacker = self._msgpack.Unpacker(raw=False)
        unpacker.feed(frame)
        try:
            unpacker.read_array_header()
            return unpacker.unpack(), unpacker.unpack()
        except Exception as exc:
            raise ProtocolError(f"a frame that is no message: {exc}") from None


def _map_apart(unpacker: Any, frame: Buffer, path: Tuple[str, ...], found: Dict[Any, Any]) -> Dict[Any, Any]:
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        begin = unpacker.tell()
        if not path:
            unpacker.skip()
            found[key] = bytes(frame[begin:unpacker.tell()])
        elif key == path[0]:
            found[key] = _map_apart(unpacker, frame, path[1:], {})
        else:
            found[key] = unpacker.unpack()
    return found


def load_codec(fallback: str) -> Codec:
    """`fallback`: the directory that holds the pure Python msgpack. ImportError when there is none anywhere."""
    try:
        import msgpack
    except ImportError:
        sys.path.append(fallback)
        import msgpack
    if msgpack.version < (1, 0):
        raise ImportError(f"msgpack {msgpack.version} in {msgpack.__file__} is too old, 1.0 is needed; remove it, and "
                          "pypoold uses its own")
    return Codec(msgpack)
