"""Real workers whose daemon process is killed, and which the next one takes over, by whoever they were started."""
from __future__ import annotations

import contextlib
import json
import mmap
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any, Dict, Iterator

import pytest

from tests.support.template_harness import TemplateHarness, subreaper, write_app
from tests.support.worker_harness import PATIENCE, ROOT, WorkerHarness

APP = """
count = 0
@expose
def add():
    global count
    count += 1
    return count
@expose
def sleep():
    import time
    time.sleep(60)
@expose
def signal_at_the_parents_end():
    import ctypes
    number = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0) == 0
    return number.value
"""

DAEMON = """
import contextlib, json, socket, sys
sys.path[:0] = [{root!r}]
from tests.support.template_harness import TemplateHarness, subreaper
from tests.support.worker_harness import WorkerHarness
with contextlib.ExitStack() as stack:
    if {forks!r}:
        stack.enter_context(subreaper())
        template = stack.enter_context(TemplateHarness("made", path={path!r}))
        template.start_template()
        worker = stack.enter_context(template.worker(outlive=True, go=True))
    else:
        worker = stack.enter_context(WorkerHarness("made", path={path!r}))
    worker.start()
    assert worker.call("add").value == 1
    if {busy!r}:
        worker.request("sleep")
        worker.wait_for_frame("sleep")
    told = json.dumps([worker.pid, worker.hello, worker.told]).encode()
    kept = [worker.control.fileno(), worker._calls.fileno(), worker._dump]
    socket.send_fds(socket.socket(fileno={store}), [told], kept)
    sys.stdin.read()
"""


class Orphan(WorkerHarness):
    """What is left of a worker's harness when the process that had it was killed."""

    def __init__(self, store: socket.socket) -> None:
        """`store`: where that process has put what is not to end with it."""
        super().__init__()
        store.settimeout(PATIENCE)
        told, fds, _, _ = socket.recv_fds(store, 65536, 3)
        self.pid, self.hello, self.told = json.loads(told)
        self.control, self._calls = (socket.socket(fileno=fd) for fd in fds[:2])
        self.control.settimeout(PATIENCE)
        self._dump = fds[2]
        with open(f"/proc/{self.pid}/fd/6", "r+b", buffering=0) as page:
            self._page = mmap.mmap(page.fileno(), mmap.PAGESIZE)
        self._pidfd = os.pidfd_open(self.pid)
        self._readers = []

    def __enter__(self) -> Orphan:
        return self


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    with subreaper():
        yield


@contextlib.contextmanager
def orphan(directory: pathlib.Path, way: str, busy: bool) -> Iterator[Orphan]:
    """A worker whose daemon was killed, and the template with it."""
    path = write_app(directory, APP, way)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        text = DAEMON.format(root=ROOT, path=path, forks=way != "exec", busy=busy, store=theirs.fileno())
        with subprocess.Popen([sys.executable, "-B", "-c", text], stdin=subprocess.PIPE,
                              pass_fds=[theirs.fileno()]) as daemon:
            theirs.close()
            with Orphan(ours) as worker:
                daemon.kill()
                daemon.wait()
                yield worker


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("way", ["exec", "clone", "double"])
def test_a_worker_outlives_its_daemon_and_serves_the_next(tmp_path: pathlib.Path, way: str, busy: bool) -> None:
    with orphan(tmp_path, way, busy) as worker:
        worker.adopt(9)
        if busy:
            worker.interrupt(2, 1)
        worker.expect_ready(9)
        assert worker.call("add").value == 2
        assert worker.stop() == 0


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("way", ["exec", "clone", "double"])
def test_it_ends_when_nobody_holds_its_control_channel(tmp_path: pathlib.Path, way: str, busy: bool) -> None:
    with orphan(tmp_path, way, busy) as worker:
        worker.send_control("ping", {"seq": 1})
        assert worker.expect("pong") == {"seq": 1}
        worker.control.close()
        assert worker.wait() == 1


@pytest.mark.parametrize("way", ["clone", "double"])
@pytest.mark.parametrize("more, number", [({}, 9), ({"outlive": False}, 9), ({"outlive": True}, 0)])
def test_fork_says_whether_the_end_of_the_daemon_is_its_own(tmp_path: pathlib.Path, way: str, more: Dict[str, Any],
                                                            number: int) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, APP, way)) as template:
        template.start_template()
        with template.worker(**more) as worker:
            worker.start()
            assert worker.call("signal_at_the_parents_end").value == number


def test_one_that_outlives_may_be_born_to_anybody(tmp_path: pathlib.Path) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, APP + "os.getppid = lambda: 1\n")) as template:
        template.start_template()
        with template.worker(outlive=True) as worker:
            worker.start()
            assert worker.stop() == 0
