"""A template under test, and the workers that it forks: this process plays the daemon, whose children they all are."""
from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import msgpack

from tests.support.worker_harness import WorkerHarness

PR_SET_CHILD_SUBREAPER = 36

DOUBLE = "import pypool_worker.forking as forking\nforking.make_clone = lambda native: None\n"
HEAD = "import os, sys, threading\nfrom pypool_worker import after_fork, expose, on_start, on_stop\n"


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

    def worker(self, mark: int = 0, answered: bool = True, held: bool = False, **more: Any) -> ForkedWorker:
        """A worker of it, forked when its context is entered. ForkFailed is raised then. `more`: keys of `fork`."""
        self.forked += 1
        return ForkedWorker(self, {"worker": self.forked, "mark": mark, **more}, answered, held)

    @contextlib.contextmanager
    def together(self, count: int, **more: Any) -> Iterator[List[ForkedWorker]]:
        """As many, of which it is told while it stands still; those that could be forked. `more`: as of worker()."""
        with contextlib.ExitStack() as stack:
            os.kill(self.pid, signal.SIGSTOP)
            try:
                ordered = [self.worker(held=True, **more).__enter__() for _ in range(count)]
            finally:
                os.kill(self.pid, signal.SIGCONT)
            yield [stack.enter_context(contextlib.closing(worker)) for worker in ordered if worker.is_born()]

    def ping(self) -> None:
        """It has done all that it was sent before."""
        self.send_control("ping", {"seq": self.forked})
        assert self.expect("pong") == {"seq": self.forked}

    def told_init(self, worker: int) -> Dict[str, Any]:
        return {**self._init, "worker": worker}


class ForkedWorker(WorkerHarness):
    """As any other worker, from hello on; with `go` from ready, or its first phase."""

    def __init__(self, template: TemplateHarness, told: Dict[str, Any], answered: bool, held: bool) -> None:
        """`answered`: the template will tell its pid; its own hello does it else. `held`: it tells later, to is_born()."""
        super().__init__()
        self._template = template
        self._told = told
        self._answered = answered
        self._held = held
        self._init = template.told_init(told["worker"])

    def init(self) -> Tuple[str, Dict[str, Any]]:
        if not self._told.get("go"):
            return super().init()
        self.hello = {key: value for key, value in {**self._template.hello, "pid": self.pid}.items() if key != "t_ns"}
        return self.outcome()

    def _spawn(self, fds: Sequence[int]) -> None:
        self._template.send_fds("fork", self._told, fds)
        for fd in fds:
            os.close(fd)
        if not self._held:
            self._expect_birth()

    def is_born(self) -> bool:
        """Of one that is held. False: the template has told that it could not be forked."""
        try:
            self._expect_birth()
        except ForkFailed:
            return False
        return True

    def close(self) -> None:
        self.__exit__(None, None, None)

    def _expect_birth(self) -> None:
        if self._answered:
            answer = self._template.expect("forked")
            assert answer["worker"] == self._told["worker"]
            if "errno" in answer:
                self._abandon()
                raise ForkFailed(answer["errno"])
            self.pid = answer["pid"]
        else:
            self.pid = msgpack.unpackb(self.control.recv(65536, socket.MSG_PEEK))[2][0]["pid"]
        self._pidfd = os.pidfd_open(self.pid)

    def _abandon(self) -> None:
        self._calls.close()
        self.control.close()
        os.close(self._dump)


def write_app(directory: pathlib.Path, text: str = "", way: str = "clone", name: str = "made") -> Tuple[str]:
    """A module of that name, and the path to it. `way`: how a template is to fork that has it."""
    (directory / f"{name}.py").write_text((DOUBLE if way == "double" else "") + HEAD + text)
    return (str(directory),)


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Within it, descendants of this process whose parent ends become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
