"""The call channel: messages behind a length of 4 bytes, on a blocking stream socket."""
from __future__ import annotations

import os
from typing import Optional

from pypool_worker.errors import ProtocolError

HEADER = 4
FRAME_MAX = 0x04FFFFFF
BUFFER_SIZE = 64 * 1024
JOIN_MAX = 64 * 1024
KEEP_MAX = 4 << 20  # a buffer that is made anew is faulted in page by page, which costs more than reading into it


class Channel:
    """Reads and writes whole frames. Main thread only, except stop_reading().

    It keeps the number of the descriptor and no socket object: nothing of it is closed behind our back.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._view = memoryview(bytearray(BUFFER_SIZE))
        self._large = memoryview(b"")
        self._start = 0
        self._end = 0

    def receive(self) -> Optional[memoryview]:
        """The next frame, valid until the next call of this; None at the end. Blocks.

        Raises ProtocolError for a length that cannot be and for an end inside a frame, OSError when the socket is gone.
        """
        while True:
            have = self._end - self._start
            if have >= HEADER:
                size = self._size()
                if have >= HEADER + size:
                    return self._take(size)
                if HEADER + size > BUFFER_SIZE:
                    return self._receive_large(size)
            if self._start:
                self._view[:have] = self._view[self._start:self._end]
                self._start, self._end = 0, have
            if not self._fill(self._view[have:]):
                if have:
                    raise ProtocolError("the call channel ended inside a frame")
                return None

    def send(self, *parts: bytes) -> None:
        """Writes one frame made of those. Blocks until all of it is written; OSError when the socket is gone."""
        size = sum(map(len, parts))
        header = size.to_bytes(HEADER, "big")
        if size <= JOIN_MAX:
            self._write_all(memoryview(header + b"".join(parts)))
            return
        written = os.writev(self._fd, [header, *parts])
        for part in (header, *parts):
            if written < len(part):
                self._write_all(memoryview(part)[written:])
            written = max(0, written - len(part))

    def stop_reading(self) -> None:
        """What has arrived is still received, then the end; the way out stays open. From any thread."""
        import socket  # here: needed once, at the end of a worker's life

        sock = socket.socket(fileno=self._fd)
        try:
            sock.shutdown(socket.SHUT_RD)
        finally:
            sock.detach()

    def abandon(self) -> None:
        """In a forked child: the channel belongs to the worker."""
        self._fd = -1

    def _size(self) -> int:
        size = int.from_bytes(self._view[self._start:self._start + HEADER], "big")
        if not 0 < size <= FRAME_MAX:
            raise ProtocolError(f"a frame of length {size}")
        return size

    def _take(self, size: int) -> memoryview:
        begin = self._start + HEADER
        self._start = begin + size
        if self._start == self._end:
            self._start = self._end = 0
        return self._view[begin:begin + size]

    def _fill(self, room: memoryview) -> int:
        got = os.readv(self._fd, [room])
        self._end += got
        return got

    def _receive_large(self, size: int) -> memoryview:
        frame = self._large[:size]
        if len(frame) < size:
            frame = memoryview(bytearray(size))
            if size <= KEEP_MAX:
                self._large = frame
        have = self._end - self._start - HEADER
        frame[:have] = self._view[self._start + HEADER:self._end]
        self._start = self._end = 0
        while have < size:
            got = os.readv(self._fd, [frame[have:]])
            if not got:
                raise ProtocolError("the call channel ended inside a frame")
            have += got
        return frame

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self._fd, rest):]
