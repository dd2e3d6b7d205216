"""Rebirth: what makes a worker of its own out of a process that was just forked from a template."""
from __future__ import annotations

import os
import resource
import traceback
from typing import TYPE_CHECKING, Dict, List

from pypool_worker.audit import SOCKET
from pypool_worker.output import complain
from pypool_worker.parts import Parts

if TYPE_CHECKING:
    from pypool_worker.native import Native

RLIMIT_LOCKS = 10  # means nothing to the kernel any more: the daemon knows its processes by it
ORPHANED = 127
VARIABLE = "PYPOOL_WORKER"


class Rebirth:
    """Made in the template, so that the child has little to do."""

    _native: Native

    def __init__(self, parts: Parts, daemon: int) -> None:
        """`daemon`: its pid."""
        self._parts = parts
        self._daemon = daemon
        self._sockets: List[int] = []
        self._locks_max = resource.getrlimit(RLIMIT_LOCKS)[1]

    def prepare(self, native: Native, opened: Dict[int, str]) -> None:
        """`opened`: the descriptors that the application has opened."""
        self._native = native
        self._sockets = [fd for fd, what in opened.items() if what.startswith(SOCKET)]

    def become_worker(self, worker: int, mark: int, outlive: bool, fds: List[int]) -> None:
        """Of the child. Exits when that cannot be, or when the daemon is gone.

        `outlive`: another daemon process may follow; the end of its control channel alone tells that none will.
        """
        try:
            self.take_over(worker, mark, outlive, fds)
        except BaseException:
            complain(f"what was forked cannot become a worker: {traceback.format_exc()}")
            os._exit(1)

    def take_over(self, worker: int, mark: int, outlive: bool, fds: List[int]) -> None:
        """Raises whatever goes wrong, as it must not end a template that rehearses this."""
        os.setpgid(0, 0)
        if not outlive:
            self._end_with_daemon()
        if mark:
            self._set_mark(mark)
        self._parts.replace(*fds)
        self._native.map_again()
        os.environ[VARIABLE] = str(worker)
        if self._sockets:
            self._cut_off_sockets()

    def _end_with_daemon(self) -> None:
        self._native.die_with_parent()
        if os.getppid() != self._daemon:
            os._exit(ORPHANED)

    def _set_mark(self, mark: int) -> None:
        try:
            resource.setrlimit(RLIMIT_LOCKS, (mark, self._locks_max))
        except (OSError, ValueError):
            pass  # the daemon has other signs

    def _cut_off_sockets(self) -> None:
        """A connection cannot be shared. Objects that use the number meet something harmless; nobody else gets it."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in self._sockets:
            os.dup2(null, fd, inheritable=False)
        os.close(null)
