"""Stack dumps: SIGUSR2 makes the C level write the main thread's stack to a pipe, even while C code holds the GIL.

faulthandler writes the text and then calls Python's own C handler, which writes the number of the signal to the wakeup
fd: the same pipe, so that the byte 0x0c ends the dump.
"""
from __future__ import annotations

import faulthandler
import os
import signal
import sys

STDERR = 2


class Dump:
    """The way a stack takes out of this process. Main thread only."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def install(self) -> None:
        """Also makes fatal signals write the stack there before they kill: the daemon finds it at the end."""
        os.set_blocking(self._fd, False)
        signal.signal(signal.SIGUSR2, _nothing)
        signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)
        faulthandler.register(signal.SIGUSR2, file=self._fd, all_threads=False, chain=True)
        faulthandler.enable(file=self._fd, all_threads=False)

    def renew(self) -> None:
        """Takes the wakeup fd back from asyncio, which replaces it and then leaves none."""
        if "asyncio" in sys.modules:
            try:
                signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)
            except (OSError, ValueError):
                pass  # the handler closed the pipe: dumps are lost, which the reply after it will show anyway

    def abandon(self) -> None:
        """In a forked child: the pipe belongs to the worker, whose death a stack in it would explain."""
        faulthandler.enable(file=STDERR, all_threads=False)
        faulthandler.unregister(signal.SIGUSR2)
        signal.set_wakeup_fd(-1)


def _nothing(_signo: int, _frame: object) -> None:
    """Exists so that Python has a C handler for the signal, which writes the wakeup byte."""
