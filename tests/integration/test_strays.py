"""Descendants of workers that have left their group, and those of others; calls that kill."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon, pool
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_fault_45_grandchildren_in_their_own_session_are_gone_with_their_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("leaver", 1), "other": pool("leaver", 1)})
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with daemon.client() as c:
            mine = c.execute("leave", pool="default")
            theirs = c.execute("leave", pool="other")
            worker = c.execute("pid", pool="default")
            assert lives(mine) and lives(theirs)  # orphans of workers that live stay
            os.kill(worker, signal.SIGKILL)
            eventually(lambda: not lives(mine), "the grandchild is gone", 2.0)
            assert lives(theirs)
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_fault_45_one_without_its_environment_is_gone_too(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("leaver", 1), "other": pool("leaver", 1)})
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with daemon.client() as c:
            mine = c.execute("leave_without_environment", pool="default")
            theirs = c.execute("leave_without_environment", pool="other")
            worker = c.execute("pid", pool="default")
            assert b"PYPOOL_WORKER" not in Path(f"/proc/{mine}/environ").read_bytes()
            os.kill(worker, signal.SIGKILL)
            eventually(lambda: not lives(mine), "the grandchild is gone", 2.0)
            daemon.wait_log(rf"stray\.killed.*pid={mine}\b")
            assert c.execute("pid", pool="default") != worker
            assert lives(theirs)
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_fault_48_a_call_that_kills_is_refused_and_others_are_served(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("leaver", 2, poison_kills=2)})
    with daemon.client() as c:
        codes = [c.fail_execute("leave_and_die").code for _ in range(4)]
        assert codes == ["worker_died", "worker_died", "poisoned", "poisoned"]
        error = c.fail_execute("leave_and_die")
        assert error.executed == "never" and error.cause["kills"] == 2
        assert "leave_and_die with these arguments has killed 2 workers, last: worker " in error.message
        assert "(SIGSEGV)" in error.message
        assert c.execute("pid") > 0
