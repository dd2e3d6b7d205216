"""The parts of this process, worker or template: what stands on the descriptors that the daemon gave."""
from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Callable

from pypool_worker.channel import Channel
from pypool_worker.codec import Codec
from pypool_worker.control import Control
from pypool_worker.copies import Copies
from pypool_worker.dump import Dump
from pypool_worker.fork import ForkGuard
from pypool_worker.handover import Handover
from pypool_worker.interrupt import Interrupt, map_page
from pypool_worker.succession import Succession

if TYPE_CHECKING:
    from pypool_worker.native import Native

CALLS, CONTROL, DUMP, PAGE = 3, 4, 5, 6
FDS = (CALLS, CONTROL, DUMP, PAGE)


class Parts:
    """They know their descriptors by number: a forked worker has those of its template, with something else behind."""

    def __init__(self, codec: Codec, base: int = 0, page: Callable[[int], memoryview] = map_page) -> None:
        """`base`: what their numbers are counted from; `page`: what maps the page. OSError or ValueError when the
        descriptors are not those that the daemon gives."""
        for fd in FDS:
            os.set_inheritable(base + fd, False)
        os.set_blocking(base + CALLS, True)
        os.set_blocking(base + CONTROL, True)
        self._base = base
        self.codec = codec
        self.interrupt = Interrupt(page(base + PAGE))
        self.dump = Dump(base + DUMP)
        self.channel = Channel(base + CALLS)
        self.copies = Copies()
        self.handover = Handover()
        self.succession = Succession(self.channel, self.handover)
        self.control = Control(base + CONTROL, codec, self.succession.stop, self.copies.forget, self.handover.put,
                               self.succession.adopt)
        self.guard = ForkGuard([self.channel.abandon, self.control.abandon, self.dump.abandon, self.handover.abandon,
                                self.succession.abandon], [base + fd for fd in FDS])

    def install(self) -> None:
        """The handlers of signals and forks."""
        self.dump.install()
        self.interrupt.install()
        signal.signal(signal.SIGINT, _leave_it_to_the_daemon)
        self.guard.install()

    def map_page_by(self, native: Native) -> None:
        """Of a template: native.map_again() then maps what has come to stand behind the page's descriptor. OSError."""
        spare = os.dup(PAGE)
        self.interrupt.unmap()
        os.dup2(spare, PAGE, inheritable=False)
        os.close(spare)
        self.interrupt.page = native.map_page(PAGE)

    def replace(self, stdout: int, stderr: int, calls: int, control: int, dump: int, page: int) -> None:
        """In a worker that was just forked: takes these, closed here, for its own.

        What writes to a number goes on with what stands behind it now: faulthandler, the wakeup fd, sys.stdout. The page
        is still to be mapped.
        """
        for number, fd in enumerate((stdout, stderr, calls, control, dump, page), 1):
            os.dup2(fd, self._base + number, number < CALLS)
            os.close(fd)
        os.set_blocking(self._base + DUMP, False)
        self.dump.renew()


def _leave_it_to_the_daemon(_signo: int, _frame: object) -> None:
    """Ctrl-C in the daemon's terminal reaches its workers too; they leave when it says so."""
