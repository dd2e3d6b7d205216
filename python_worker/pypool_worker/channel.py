"""The call channel: messages behind a length of 4 bytes, on a blocking stream socket."""
from __future__ import annotations

import _socket  # not socket, which takes long to import
import os
import struct
import time
from typing import Optional, Tuple

from pypool_worker.errors import ProtocolError

HEADER = 4
LENGTH = struct.Struct(">I")
FRAME_MAX = 0x04FFFFFF
BUFFER_SIZE = 64 * 1024
BUFFER_ROOM = BUFFER_SIZE + 8  # what stands at the begin of a frame can be looked at before it is known to be there
JOIN_MAX = 64 * 1024
KEEP_MAX = 4 << 20  # a buffer that is made anew is faulted in page by page, which costs more than reading into it


class BadLength(ProtocolError):
    """A frame that announces a length that cannot be."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a frame of length {size}")
        self.size = size


class Channel:
    """Reads and writes whole frames. Main thread only, except stop_reading() and cut().

    It keeps the number of the descriptor and no socket object: nothing of it is closed behind our back.

    `filled_ns`: when the last frame was read, on the clock of time.monotonic_ns(), if it did not come alone; else 0:
    just now. `fd`: -1 in a child that was forked meanwhile.
    """

    def __init__(self, fd: int, buffer: Optional[bytearray] = None) -> None:
        """`buffer`: of BUFFER_ROOM, that nobody else uses meanwhile."""
        self.fd = fd
        self.filled_ns = 0
        self.buffer = bytearray(BUFFER_ROOM) if buffer is None else buffer
        self.view = memoryview(self.buffer)[:BUFFER_SIZE]
        self._whole = [self.view]
        self._large = memoryview(b"")
        self._start = 0
        self._end = 0

    def receive(self) -> Optional[memoryview]:
        """The next frame, valid until the next call of this; None at the end. Blocks.

        Raises BadLength, ProtocolError for an end inside a frame, OSError when the socket is gone.
        """
        begin, end = self._start, self._end
        filled = begin == end
        if filled:
            begin, end = 0, os.readv(self.fd, self._whole)
            if not end:
                return None
        body = begin + HEADER
        if body < end:
            rest = body + LENGTH.unpack_from(self.buffer, begin)[0]
            if body < rest <= end:
                self._start, self._end = rest, end
                if filled:
                    self.filled_ns = 0 if rest == end else time.monotonic_ns()
                return self.view[body:rest]
        self._start, self._end = begin, end
        return self._receive_in_pieces()

    def fill(self) -> int:
        """Reads what has come to the begin of `buffer`, where nothing is left; blocks. How many bytes; 0 at the end.

        For whoever takes the frames from there, and does not call receive().
        """
        return os.readv(self.fd, self._whole)

    def receive_rest(self, begin: int, end: int) -> Tuple[memoryview, int, int]:
        """As receive(), of a frame of which only a part is in `buffer`, between these two, or one that cannot be. Also
        where the next begins, and where what was read ends."""
        self._start, self._end = begin, end
        return self._receive_in_pieces(), self._start, self._end

    def send(self, *parts: bytes) -> None:
        """Writes one frame made of those. Blocks until all of it is written; OSError when the socket is gone."""
        if len(parts) == 1 and len(parts[0]) <= JOIN_MAX:
            self.send_small(parts[0])
            return
        size = sum(map(len, parts))
        header = LENGTH.pack(size)
        if size <= JOIN_MAX:
            self._write_all(memoryview(header + b"".join(parts)))
            return
        written = os.writev(self.fd, [header, *parts])
        for part in (header, *parts):
            if written < len(part):
                self._write_all(memoryview(part)[written:])
            written = max(0, written - len(part))

    def send_small(self, body: bytes) -> None:
        """The same for a small frame that is there as a whole."""
        frame = LENGTH.pack(len(body)) + body
        written = os.write(self.fd, frame)
        if written < len(frame):
            self.send_rest(frame, written)

    def send_rest(self, frame: bytes, written: int) -> None:
        """Of a frame with its length, of which os.write() to `fd` has taken only so much."""
        self._write_all(memoryview(frame)[written:])

    def stop_reading(self) -> None:
        """What has arrived is still received, then the end; the way out stays open. From any thread."""
        sock = _socket.socket(fileno=self.fd)
        try:
            sock.shutdown(_socket.SHUT_RD)
        finally:
            sock.detach()
            os.set_blocking(self.fd, True)  # after socket.setdefaulttimeout() a socket object has made it the contrary

    def cut(self) -> None:
        """Ends both ways, and keeps the descriptor: whoever reads or writes there wakes up. From any thread, while the
        main thread neither replaces nor closes it."""
        try:
            sock = _socket.socket(fileno=self.fd)
        except OSError:
            return  # user code closed it, or put something else in its place
        try:
            sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # it was never connected
        finally:
            sock.detach()

    def replace(self, fd: int) -> None:
        """From now on what stands behind this one, which is closed here; nothing of what was read is left."""
        os.set_blocking(fd, True)
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        self._start = self._end = self.filled_ns = 0

    def close(self) -> None:
        """Both ways, also for those who hold a copy of the descriptor; what was not read goes with it."""
        fd = self.abandon()
        try:
            sock = _socket.socket(fileno=fd)
        except OSError:
            return  # user code closed it, or put something else in its place
        try:
            sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is gone
        finally:
            sock.close()

    def abandon(self) -> int:
        """In a forked child: the channel belongs to the worker. Returns the descriptor, which is as open as it was."""
        fd, self.fd = self.fd, -1
        return fd

    def _receive_in_pieces(self) -> memoryview:
        """A frame of which only a part is in the buffer, or one that cannot be."""
        while True:
            begin, end = self._start, self._end
            have = end - begin
            if have >= HEADER:
                size: int = LENGTH.unpack_from(self.buffer, begin)[0]
                if not 0 < size <= FRAME_MAX:
                    raise BadLength(size)
                if HEADER + size > BUFFER_SIZE:
                    return self._receive_large(size)
                if have >= HEADER + size:
                    self._start = begin + HEADER + size
                    self.filled_ns = 0 if self._start == end else time.monotonic_ns()
                    return self.view[begin + HEADER:self._start]
            if begin:
                self.view[:have] = self.view[begin:end]
                self._start, self._end = 0, have
            got = os.readv(self.fd, [self.view[have:]])
            if not got:
                raise ProtocolError("the call channel ended inside a frame")
            self._end += got

    def _receive_large(self, size: int) -> memoryview:
        frame = self._large[:size]
        if len(frame) < size:
            frame = memoryview(bytearray(size))
            if size <= KEEP_MAX:
                self._large = frame
        have = self._end - self._start - HEADER
        frame[:have] = self.view[self._start + HEADER:self._end]
        self._start = self._end = self.filled_ns = 0
        while have < size:
            got = os.readv(self.fd, [frame[have:]])
            if not got:
                raise ProtocolError("the call channel ended inside a frame")
            have += got
        return frame

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self.fd, rest):]
