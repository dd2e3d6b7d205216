"""The alarm: ends a handler at its own deadline where no daemon watches, in direct leases.

It takes ITIMER_REAL and SIGALRM for as long as the handler runs, and gives both back afterwards.
"""
from __future__ import annotations

import signal
import time
from typing import Any, Tuple

from pypool_worker.interrupt import Interrupt

NS = 1e9
SOON = 1e-6  # seconds: a timer of 0 would be none


class Alarm:
    """One deadline at a time. Main thread only."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._handler: Any = None
        self._timer: Tuple[float, float] = (0.0, 0.0)
        self._taken_ns = 0

    def take(self) -> None:
        """Before the handler, and outside of what an interrupt can cut short: give_back() must follow."""
        self._timer = signal.setitimer(signal.ITIMER_REAL, 0)
        self._handler = signal.signal(signal.SIGALRM, self._on_alarm)
        self._taken_ns = time.monotonic_ns()

    def start(self, deadline_ns: int) -> None:
        """When the call is armed. Raises DeadlineExceeded at once when it has passed."""
        left = deadline_ns - time.monotonic_ns()
        if left <= 0:
            self._interrupt.expire()
        signal.setitimer(signal.ITIMER_REAL, left / NS)

    def give_back(self) -> None:
        """What a timer of the application's had left goes on from here."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._handler is not None:  # None: one that Python cannot set again; ours does nothing by then
            signal.signal(signal.SIGALRM, self._handler)
        delay, interval = self._timer
        if delay:
            gone = (time.monotonic_ns() - self._taken_ns) / NS
            signal.setitimer(signal.ITIMER_REAL, max(delay - gone, SOON), interval)

    def _on_alarm(self, _signo: int, _frame: object) -> None:
        self._interrupt.expire()
