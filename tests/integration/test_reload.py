"""Rolling reload: new code without a dropped call, and broken code without a noticed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.daemon import BUILD, Daemon, pool
from tests.support.daemon_life import check_end
from tests.support.scenes import pool_of, wait_running, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
WAY: dict[str, str] = {}
RELOADS = int(os.environ.get("PYPOOL_RELOADS", "12"))

APP = """\
import os, time
from pypool_worker import expose
{broken}
@expose
def version():
    return {version}
@expose
def pid():
    return os.getpid()
@expose
def sleep(seconds):
    time.sleep(seconds)
    return {version}
"""


class Code:
    """An application that changes."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "live.py"
        directory.chmod(0o755)
        self.write(1)

    def write(self, version: int, broken: str = "") -> None:
        new = self.file.with_suffix(".new")
        new.write_text(APP.format(version=version, broken=broken))
        new.rename(self.file)
        # the same second and the same size would let Python take the old bytecode
        os.utime(self.file, (version * 10, version * 10))


@pytest.fixture(params=["exec", "fork"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """How workers come to be; a reload must not show it."""
    WAY["start"] = request.param
    yield


def start(start_daemon: StartDaemon, code: Code, n: int = 2, **settings: Any) -> Daemon:
    return start_daemon({"default": pool("live", n, path=[str(code.file.parent)], **WAY, **settings)})


def test_new_code_serves_when_the_reload_is_done(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 3)
    with daemon.client() as c:
        before = {w["worker"] for w in workers(c)}
        assert c.execute("version") == 1
        code.write(2)
        got = c.call("pool.reload")
        assert (got["pool"], got["generation"], got["replaced"]) == ("default", 2, 3)
        assert [c.execute("version") for _ in range(6)] == [2] * 6
        now = workers(c)
        assert {w["generation"] for w in now} == {2} and not before & {w["worker"] for w in now} and len(now) == 3
        assert all(w["why"] == "reload" for w in workers(c, "dead"))
        shown = pool_of(c)
        assert (shown["reload"], shown["reloads"], shown["reload_failure"], shown["generation"]) == ("none", 1, None, 2)


def test_broken_code_changes_nothing_and_is_told_with_its_traceback(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code)
    with daemon.client() as c:
        before = {w["worker"] for w in workers(c)}
        code.write(2, broken="raise RuntimeError('licence server refused')")
        error = c.fail("pool.reload")
        assert (error.code, error.executed) == ("init_failed", "never")
        assert "licence server refused" in error.message and "live.py line 3" in error.message
        assert error.message.startswith("pool default: ") and "generation 1 serve on" in error.message
        assert "RuntimeError" in error.cause["traceback"]
        assert {w["worker"] for w in workers(c)} == before
        assert c.execute("version") == 1
        shown = pool_of(c)
        assert shown["state"] == "serving" and "licence server refused" in shown["reload_failure"]
        told = c.call("why", pool="default")["reload_failure"]
        assert (told["message"], told["phase"]) == (shown["reload_failure"], "imports")
        assert told["cause"]["traceback"] == error.cause["traceback"]
        explained = ctl(daemon, "why", "default").stdout
        assert "the last one failed in phase imports, and changed nothing: RuntimeError" in explained and "Traceback" in explained
        code.write(3)
        assert c.call("pool.reload")["generation"] == 2
        assert c.execute("version") == 3 and pool_of(c)["reload_failure"] is None
        assert c.call("why", pool="default")["reload_failure"] is None


def test_what_runs_ends_in_the_code_that_it_began_with(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 1)
    with daemon.client() as c, daemon.client() as admin:
        number = c.start_execute("sleep", 1.0)
        wait_running(c, "sleep")
        code.write(2)
        reload = admin.start("pool.reload")
        eventually(lambda: bool(c.execute("version") == 2), "the canary serves beside it")
        assert c.wait(number).value() == 1
        assert admin.wait(reload).value()["replaced"] == 1


def test_fault_85_a_session_never_mixes_generations(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 2, drain_timeout="60s")
    with daemon.client() as c:
        pid = c.execute("pid", session="s")
        code.write(2)
        c.call("pool.reload", wait=False)
        eventually(lambda: bool(c.execute("version") == 2), "new code serves")
        for _ in range(5):
            got = c.call("execute", target="version", session="s", meta=True)
            assert (got["value"], got["meta"]["generation"], got["meta"]["pid"]) == (1, 1, pid)
        assert c.call("session.close", session="s")
        assert c.execute("version", session="s") == 2
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "the reload is done")


def test_a_lease_survives_a_reload(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 2)
    with daemon.client() as c:
        lease = c.call("checkout", type="anonymous")
        code.write(2)
        c.call("pool.reload", wait=False)
        eventually(lambda: bool(c.execute("version") == 2), "new code serves")
        assert c.execute("version", lease=lease["lease"]) == 1
        assert c.call("checkin", lease=lease["lease"]) is True
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "the reload is done")


def test_whoever_goes_or_half_closes_while_it_waits(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code)
    with daemon.client() as c:
        with daemon.client() as gone:
            gone.start("pool.reload")
            eventually(lambda: bool(pool_of(c)["reload"] != "none"), "it has begun")
        with daemon.client() as half:
            number = half.start("pool.reload")
            half.shutdown_write()
            assert half.wait(number).value()["generation"] >= 2
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "it is done")


def test_sighup_reloads_all_pools(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    settings = pool("live", 1, path=[str(tmp_path)], **WAY)
    daemon = start_daemon({"one": settings, "two": settings})
    with daemon.client() as c:
        code.write(2)
        daemon.signal(signal.SIGHUP)
        for name in ("one", "two"):
            eventually(lambda: bool(c.execute("version", pool=name) == 2), f"pool {name} has the new code")
            eventually(lambda: bool(pool_of(c, name)["reload"] == "none"), "the reload is done")


def ctl(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BUILD / "pypoolctl"), "--socket", str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_pypoolctl_reload(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code)
    code.write(2)
    done = ctl(daemon, "reload", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pool default is at generation 2: 2 workers replaced in ")
    shown = json.loads(ctl(daemon, "--json", "reload", "default", "--wait").stdout)
    assert (shown["pool"], shown["generation"], shown["replaced"]) == ("default", 3, 2)
    code.write(3, broken="import nothing_like_that")
    failed = ctl(daemon, "reload", "--wait")
    assert failed.returncode == 1 and "nothing_like_that" in failed.stderr and "Traceback" in failed.stderr
    assert ctl(daemon, "reload", "nowhere").returncode == 1
    begun = ctl(daemon, "reload")
    assert begun.returncode == 0 and "is being reloaded" in begun.stdout
    with daemon.client() as c:
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "it is done")


class Caller(threading.Thread):
    """Calls until it is told to stop; nothing may go wrong."""

    def __init__(self, daemon: Daemon, stop: threading.Event) -> None:
        super().__init__()
        self.socket = daemon.socket
        self.stop = stop
        self.calls = 0
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.socket) as c:
                while not self.stop.is_set():
                    assert isinstance(c.execute("version"), int)
                    self.calls += 1
        except BaseException as trouble:
            self.trouble = trouble


def test_reloads_under_load_drop_no_call(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 3)
    stop = threading.Event()
    callers = [Caller(daemon, stop) for _ in range(4)]
    for caller in callers:
        caller.start()
    broken = {RELOADS // 3, 2 * RELOADS // 3}
    good = 0
    try:
        with daemon.client() as c:
            for number in range(RELOADS):
                code.write(number + 2, broken="raise SystemExit(3)" if number in broken else "")
                if number in broken:
                    assert c.fail("pool.reload").code == "init_failed"
                else:
                    good += 1
                    assert c.call("pool.reload")["generation"] == good + 1
                    assert c.execute("version") == number + 2
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    for caller in callers:
        if caller.trouble:
            raise caller.trouble
    print(f"{RELOADS} reloads, {len(broken)} of them broken, {sum(x.calls for x in callers)} calls, none failed")
    assert min(x.calls for x in callers) > 0


def test_the_end_of_the_daemon_gives_a_reload_up(start_daemon: StartDaemon, tmp_path: Path) -> None:
    code = Code(tmp_path)
    daemon = start(start_daemon, code, 1)
    with daemon.client() as c, daemon.client() as other:
        number = other.start_execute("sleep", 3.0)
        wait_running(c, "sleep")
        code.write(2, broken="import time; time.sleep(30)")
        reload = c.start("pool.reload")
        eventually(lambda: bool(pool_of(other)["reload"] == "canary"), "it has begun")
        daemon.signal(signal.SIGTERM)
        error = c.wait_error(reload)
        assert (error.code, error.executed) == ("draining", "never") and "given up" in error.message
        error = c.fail("pool.reload")
        assert (error.code, error.executed) == ("draining", "never")
        assert other.wait(number).value() == 1
    check_end(daemon, 0)
