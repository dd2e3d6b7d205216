"""A template under test, and the workers that it forks: this process plays the daemon, whose children they all are."""
from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any, Dict, Iterator, Sequence

from tests.support.worker_harness import WorkerHarness

PR_SET_CHILD_SUBREAPER = 36


class ForkFailed(AssertionError):
    """The template answered with an errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


class TemplateHarness(WorkerHarness):
    """As a worker's harness, as far as control goes. The options are those of a worker."""

    def __init__(self, app: str = "nasty", **options: Any) -> None:
        super().__init__(app, arguments=["template"], **options)
        self.forked = 0

    def start_template(self) -> Dict[str, Any]:
        """To ready. Returns what it says."""
        name, fields = self.init()
        assert name == "ready", (name, fields, self.stderr())
        return fields

    def worker(self, mark: int = 0) -> ForkedWorker:
        """A worker of it, forked when its context is entered."""
        self.forked += 1
        return ForkedWorker(self, self.forked, mark)

    def told_init(self, worker: int) -> Dict[str, Any]:
        return {**self._init, "worker": worker}


class ForkedWorker(WorkerHarness):
    """As any other worker, from hello on."""

    def __init__(self, template: TemplateHarness, number: int, mark: int) -> None:
        super().__init__()
        self._template = template
        self.number = number
        self._mark = mark
        self._init = template.told_init(number)

    def _spawn(self, fds: Sequence[int]) -> None:
        told = {"worker": self.number, "mark": self._mark}
        self._template.send_fds("fork", told, fds)
        for fd in fds:
            os.close(fd)
        answer = self._template.expect("forked")
        assert answer["worker"] == self.number
        if "errno" in answer:
            raise ForkFailed(answer["errno"])
        self.pid = answer["pid"]
        self._pidfd = os.pidfd_open(self.pid)


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Within it, descendants of this process whose parent ends become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
