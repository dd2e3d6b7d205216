"""What happens when a handler forks: the child is not the worker and must not be able to answer for it."""
from __future__ import annotations

import os
from typing import Callable, Sequence


def guard_forks(abandon: Sequence[Callable[[], object]], fds: Sequence[int]) -> None:
    """In every child that os.fork() makes of this process: gives up what speaks for the worker, closes its descriptors.

    A child that comes back into the runner then fails at its first write; multiprocessing's children never do.
    """
    def in_child() -> None:
        for step in abandon:
            try:
                step()
            except Exception:
                pass  # an exception here would only be printed; the rest must still be closed
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                pass

    os.register_at_fork(after_in_child=in_child)
