"""The succession: how a worker passes from a daemon process that has ended, or was replaced, to the one after it.

Between its control thread, which is told so, and its main thread, which takes the new call channel between two calls.
"""
from __future__ import annotations

import os
import threading
from typing import Callable, Optional, Tuple

from pypool_worker.channel import Channel
from pypool_worker.handover import Handover


class Succession:
    """At most one call channel that waits to take the place of the one that is served.

    `cut`: the one that is served was shut down in here, for the sake of the next; that it fails means nothing else.
    """

    def __init__(self, channel: Channel, handover: Handover) -> None:
        self._channel = channel
        self._handover = handover
        self._lock = threading.Lock()  # also: what is shut down is not replaced meanwhile; hello, then its ready
        self._waiting: Optional[Tuple[int, int]] = None  # seq, descriptor
        self._over = False
        self.cut = False

    # Of the control thread

    def adopt(self, seq: int, fd: int, greet: Callable[[int], None]) -> None:
        """Owns fd; one that was not taken yet is closed. A worker that leaves takes none, but is held up by nobody any
        more. The main thread, wherever it reads or writes, is woken by an error or the end."""
        with self._lock:
            self._drop_waiting()
            if self._over:
                os.close(fd)
            else:
                self._waiting = seq, fd
            self.cut = True
            self._channel.cut()  # first: nothing is to be answered there about a lease that ends here
            self._handover.cut()
            if not self._over:
                greet(seq)

    def stop(self) -> None:
        """The main thread is to leave when the call in hand is answered."""
        with self._lock:
            self._over = True
            self._drop_waiting()
            self._channel.stop_reading()

    # Of the main thread

    def begin(self, ready: Callable[[Optional[int]], None]) -> bool:
        """Says that the worker is ready, on the channel that it has or on one that came meanwhile: `ready` is called
        with its seq. False when it is to leave."""
        with self._lock:
            if self._over:
                return False
            ready(self._take())
            return True

    def go_on(self, ready: Callable[[Optional[int]], None]) -> bool:
        """The same when the channel has ended. False: no other is there, and none is taken from now on."""
        with self._lock:
            if self._waiting is None:
                self._over = True
                return False
            ready(self._take())
            return True

    def abandon(self) -> None:
        """In a forked child: all belongs to the worker. Without the lock, which the other thread may have held."""
        self.cut = False
        self._drop_waiting()

    def _take(self) -> Optional[int]:
        if self._waiting is None:
            return None
        (seq, fd), self._waiting = self._waiting, None
        self._channel.replace(fd)
        self._handover.renew()
        self.cut = False
        return seq

    def _drop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            os.close(waiting[1])
