"""The handover: how the socket of a direct lease comes from the control thread, which receives it, to the main thread,
which serves it. One that is there is always somewhere in here, so that none is left behind."""
from __future__ import annotations

import os
import threading
from typing import Optional, Tuple

from pypool_worker.channel import BUFFER_ROOM, Channel
from pypool_worker.errors import ProtocolError


class Handover:
    """At most one socket that waits and one that is served."""

    def __init__(self) -> None:
        self._arrival = threading.Condition()
        self._waiting: Optional[Tuple[int, int]] = None  # lease, descriptor
        self._served: Optional[Channel] = None
        self._cut = False
        self._buffer: Optional[bytearray] = None  # for one lease after the other

    def put(self, lease: int, fd: int) -> None:
        """Of the control thread. Owns fd; one that nobody came for is closed."""
        with self._arrival:
            before, self._waiting = self._waiting, (lease, fd)
            if before is not None:
                os.close(before[1])
            self._arrival.notify()

    def take(self, lease: int) -> Channel:
        """Blocks until the socket of this lease is there. close() ends it. Raises ProtocolError after cut()."""
        with self._arrival:
            while self._cut or self._waiting is None or self._waiting[0] != lease:
                if self._cut:
                    raise ProtocolError(f"the daemon that granted lease {lease} has a successor")
                self._arrival.wait()
            fd = self._waiting[1]
            os.set_blocking(fd, True)
            if self._buffer is None:
                self._buffer = bytearray(BUFFER_ROOM)
            self._served = Channel(fd, self._buffer)
            self._waiting = None
            return self._served

    def close(self) -> None:
        """The lease is over; whoever still holds a copy of the socket is cut off too."""
        if self._served is None:
            return  # also in a forked child, where the other thread may have held the lock
        with self._arrival:  # cut() must not meet its number when that belongs to somebody else
            channel, self._served = self._served, None
            if channel is not None:
                channel.close()

    def cut(self) -> None:
        """Of the control thread: there is another daemon, which knows of no lease. What is served ends, what waits is
        closed, and nothing is taken until renew(); what comes meanwhile is kept."""
        with self._arrival:
            self._cut = True
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                os.close(waiting[1])
            if self._served is not None:
                self._served.cut()
            self._arrival.notify()

    def renew(self) -> None:
        """The call channel is that of the other daemon."""
        with self._arrival:
            self._cut = False

    def abandon(self) -> None:
        """In a forked child: both belong to the worker. Without the lock, which the other thread may have held."""
        held = [] if self._waiting is None else [self._waiting[1]]
        if self._served is not None:
            held.append(self._served.abandon())
        self._waiting = self._served = None
        for fd in held:
            try:
                os.close(fd)
            except OSError:
                pass  # the handler had closed it
