"""Packets: the control channel as one thread sees it, one message a packet."""
from __future__ import annotations

import _socket  # not socket, which takes long to import
import os
import struct
from typing import Any, Dict, List, Optional, Tuple

from pypool_worker.codec import Codec
from pypool_worker.errors import ProtocolError

PACKET_MAX = 64 * 1024
LISTED_MAX = 1000
FD_SIZE = 4
FDS_MAX = 8  # six are expected at most: more are seen, and closed
FDS_ROOM = _socket.CMSG_SPACE(FDS_MAX * FD_SIZE)
FDS = [struct.Struct(f"{n}i").unpack_from for n in range(FDS_MAX + 1)]


class Packet:
    """One message that came. close() it."""

    __slots__ = ("name", "fields", "_fds", "_cut")

    def __init__(self, name: Any, fields: Dict[str, Any], fds: List[int], cut: bool) -> None:
        """`name`: None when it is no notification. `cut`: there were more descriptors than these."""
        self.name = name
        self.fields = fields
        self._fds = fds
        self._cut = cut

    def numbers(self, *keys: str) -> List[int]:
        """Raises ProtocolError when one of them is no integer."""
        found = []
        for key in keys:
            number = self.fields.get(key)
            if type(number) is not int:
                raise ProtocolError(f"a control packet without {' and '.join(keys)}")
            found.append(number)
        return found

    def flag(self, key: str) -> bool:
        """False when it is absent. Raises ProtocolError when it is no bool."""
        found = self.fields.get(key, False)
        if type(found) is not bool:
            raise ProtocolError(f"a control packet whose {key} is neither true nor false")
        return found

    def lacks_fds(self, count: int) -> bool:
        """Whether there are less than these, because this process may not have more."""
        return self._cut and len(self._fds) < count

    def take_fds(self, count: int) -> List[int]:
        """They are the caller's from then on. Raises ProtocolError when there are not as many as that."""
        if len(self._fds) != count or self._cut:
            more = " and more" if self._cut else ""
            raise ProtocolError(f"a {self.name} with {len(self._fds)}{more} descriptors in place of "
                                f"{'one' if count == 1 else count}")
        fds, self._fds = self._fds, []
        return fds

    def close(self) -> None:
        """Closes the descriptors that nobody took."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []


class Packets:
    """Sends and receives, for one thread: each has its own codec, and all of them the same socket."""

    def __init__(self, sock: _socket.socket, codec: Codec) -> None:
        self._socket = sock
        self._codec = codec

    def send(self, name: str, fields: Dict[str, Any]) -> None:
        self.send_packed(self._codec.pack([2, name, [fields]]))

    def send_packed(self, message: bytes) -> None:
        os.write(self._socket.fileno(), message)

    def receive(self) -> Optional[Packet]:
        """Blocks. None at the end. Raises OSError, and ProtocolError for what is no message."""
        packet, ancillary, flags, _ = self._socket.recvmsg(PACKET_MAX, FDS_ROOM, _socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return None
        fds = _descriptors(ancillary)
        try:
            kind, name, params = self._codec.unpack_plain(packet)
            fields = params[0] if params else {}
        except (ValueError, TypeError, IndexError, KeyError):
            fields = None
        if type(fields) is not dict:
            raise ProtocolError("a control packet that is no notification")
        return Packet(name if kind == 2 else None, fields, fds, bool(flags & _socket.MSG_CTRUNC))


def _descriptors(ancillary: List[Tuple[int, int, bytes]]) -> List[int]:
    found: List[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            found.extend(FDS[len(data) // FD_SIZE](data))
    return found


def fitting(names: List[str], size: int) -> List[str]:
    """As many of them as have room."""
    listed = names[:LISTED_MAX]
    while _size(listed) > size:
        listed = listed[:len(listed) // 2]
    return listed


def _size(names: List[str]) -> int:
    return sum(len(name.encode()) + 5 for name in names)
