"""What happens when user code forks: the child is not the worker and must not be able to answer for it."""
from __future__ import annotations

import os
from typing import Callable, Sequence


class ForkGuard:
    """In every child that os.fork() makes of this process: gives up what speaks for it, closes its descriptors.

    A child that comes back into the runner then fails at its first write; multiprocessing's children never do.

    `lifted`: while a template forks for itself.
    """

    def __init__(self, abandon: Sequence[Callable[[], object]], fds: Sequence[int]) -> None:
        self.lifted = False
        self._abandon = abandon
        self._fds = fds

    def install(self) -> None:
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        if self.lifted:
            return
        for step in self._abandon:
            try:
                step()
            except Exception:
                pass  # an exception here would only be printed; the rest must still be closed
        for fd in self._fds:
            try:
                os.close(fd)
            except OSError:
                pass
