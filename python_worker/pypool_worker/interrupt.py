"""The interrupt: ends the handler of one call, and never anybody else.

The daemon writes the number of the call into a shared page, then sends SIGUSR1. The exception rises only while that
very call is armed, and disarms in the same step; a signal that comes late, or twice, finds nothing.
"""
from __future__ import annotations

import mmap
import os
import signal
from typing import NoReturn

from pypool_worker.errors import CallCancelled, DeadlineExceeded

WANTED, REASON = 0, 1
REASON_DEADLINE = 2


class Interrupt:
    """What is armed now, against what the daemon wants. Main thread only.

    `armed`: the call, or 0; only to be set to 0, which is what disarm() does, where a call of it is too much.
    """

    def __init__(self, page: memoryview) -> None:
        """`page`: two words of 64 bits, `wanted` and `reason`."""
        self.page = page
        self.armed = 0

    def unmap(self) -> None:
        """Before another page takes the place of this one; closes its descriptor."""
        self.page.release()

    def install(self) -> None:
        signal.signal(signal.SIGUSR1, self._on_signal)

    def arm(self, call: int) -> None:
        """Raises at once when the interrupt came before the call did. Only inside a `try` that disarms."""
        self.armed = call
        if self.page[WANTED] == call:
            self._strike()

    def disarm(self) -> None:
        self.armed = 0

    def expire(self) -> None:
        """The time of the call that is armed is over, if one is."""
        if self.armed:
            self.armed = 0
            raise DeadlineExceeded("the call is past its deadline")

    def _on_signal(self, _signo: int, _frame: object) -> None:
        if self.armed and self.page[WANTED] == self.armed:
            self._strike()

    def _strike(self) -> NoReturn:
        self.armed = 0
        if self.page[REASON] == REASON_DEADLINE:
            raise DeadlineExceeded("the call is past its deadline")
        raise CallCancelled("the caller cancelled the call")


def map_page(fd: int) -> memoryview:
    """The shared page, read-only, for as long as the process lives. OSError or ValueError when fd is not one.

    mmap keeps a duplicate of the descriptor open: it is made to be the number `fd` itself, so that no other appears.
    """
    spare = os.dup(fd)
    try:
        os.close(fd)
        return _mapped(spare)
    finally:
        os.close(spare)


def _mapped(fd: int) -> memoryview:
    return memoryview(mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)).cast("Q")
