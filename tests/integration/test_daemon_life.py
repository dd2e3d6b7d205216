"""How the daemon ends, and whose its socket is."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.daemon import DEMO, SLOW, Daemon, pool
from tests.support.waiting import eventually
from tests.support.daemon_life import Start, bind, calls, check_end, state_of_first_pool


@pytest.fixture
def daemon(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 2)})


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_89_at_sigterm_running_calls_finish_and_queued_ones_are_never_run(
    daemon: Daemon, number: int, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        running = [c.start_execute("sleep", 1.0) for _ in range(2)]
        queued = [c.start_execute("append_line", str(ledger), "ran") for _ in range(20)]
        eventually(lambda: (calls(c, "running"), calls(c, "queued")) == (2, 20), "all workers are busy")
        daemon.signal(number)
        for n in queued:
            error = c.wait_error(n)
            assert (error.code, error.executed) == ("draining", "never")
        late = c.fail_execute("echo", 1)
        assert (late.code, late.executed) == ("draining", "never")
        assert c.call("status")["state"] == "draining"
        assert [c.wait(n).value() for n in running] == [1.0, 1.0]
        c.wait_closed()
    check_end(daemon, 0)
    assert not ledger.exists() and not daemon.socket.exists()


def test_fault_89_a_second_sigterm_does_not_wait(daemon: Daemon) -> None:
    with daemon.client() as c:
        stubborn, sleeping = c.start_execute("ignore_term_forever"), c.start_execute("sleep", 60)
        eventually(lambda: calls(c, "running") == 2, "both run")
        daemon.signal(signal.SIGTERM)
        daemon.wait_log(r"daemon\.draining")
        assert calls(c, "running") == 2, "the first one waits"
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        for n in (stubborn, sleeping):
            error = c.wait_error(n)
            assert (error.code, error.executed) == ("cancelled", "maybe")
        check_end(daemon, 0)
        assert time.monotonic() - began < 2 * SLOW


def test_fault_89_after_the_drain_timeout_it_does_not_wait_either(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, drain_timeout="200ms")
    with daemon.client() as c:
        number = c.start_execute("sleep", 60)
        eventually(lambda: calls(c, "running") == 1, "it runs")
        daemon.signal(signal.SIGTERM)
        assert c.wait_error(number).code == "cancelled"
        check_end(daemon, 0)


def test_fault_89_workers_that_still_start_do_not_hold_up_the_end(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("hangs_in_import")}, ready=False)
    daemon.wait_log(r"state=initializing")
    daemon.signal(signal.SIGTERM)
    check_end(daemon, 0, 5)


def test_sighup_is_no_reason_to_die(daemon: Daemon) -> None:
    with daemon.client() as c:
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(r"daemon\.reload")
        assert c.execute("echo", 1) == 1


def test_fault_90_workers_follow_a_daemon_that_was_killed(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 4), "slow": pool("hangs_in_import", 1)}, ready=False)
    daemon.wait_log(r"listener\.open")
    with daemon.client() as c:
        eventually(lambda: state_of_first_pool(c) == "serving", "the pool serves", 30)
        c.start_execute("busy_c", 30)
        c.start_execute("sleep", 60)
        c.start_execute("ignore_term_forever")
        eventually(lambda: calls(c, "running") == 3, "three are busy, one is idle, one still starts")
        daemon.wait_log(r"worker\.state pool=slow .*state=initializing")
        assert len(procfs.children(daemon.pid)) == 5
        daemon.kill()


# ---- the socket


def test_fault_91_a_second_daemon_on_the_same_socket_refuses(daemon: Daemon, start_daemon: Start) -> None:
    with daemon.client() as c:
        number = c.start_execute("sleep", 0.3)
        second = start_daemon(arguments=["--config", str(daemon.config)], ready=False)
        assert second.wait() == 1
        second.wait_log(rf"listener\.failed .*another pypoold is listening on {daemon.socket}")
        assert c.wait(number).value() == 0.3
    with daemon.client() as c:
        assert c.execute("echo", 1) == 1, "the first one is still there for new clients"


def test_fault_92_the_socket_of_a_killed_daemon_is_replaced(place: Path, start_daemon: Start) -> None:
    first = start_daemon({"default": pool("nasty", 1)}, directory=place)
    first.kill()
    first.check_log()
    first.discard()
    assert first.socket.is_socket()
    second = start_daemon({"default": pool("nasty", 1)}, directory=place)
    with second.client() as c:
        assert c.execute("echo", 1) == 1
    second.stop()


def put_file(path: Path) -> None:
    path.write_text("precious")


def put_symlink(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to(path.with_name("target"))


def put_symlink_to_stale_socket(path: Path) -> None:
    bind(path.with_name("target")).close()
    path.symlink_to(path.with_name("target"))


def put_foreign_socket(path: Path) -> None:
    bind(path).close()
    os.chown(path, 65534, 65534)


OBSTACLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "file": (put_file, "no socket"),
    "directory": (Path.mkdir, "no socket"),
    "symlink": (put_symlink, "no socket"),
    "symlink_to_a_stale_socket": (put_symlink_to_stale_socket, "no socket"),
    "stale_socket_of_someone_else": (put_foreign_socket, "another user"),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_fault_92_what_is_not_our_own_stale_socket_stays(place: Path, start_daemon: Start, what: str) -> None:
    put, reason = OBSTACLES[what]
    if "someone" in what and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = place / "pypoold.sock"
    put(path)
    before = path.lstat()
    daemon = start_daemon({"default": DEMO}, directory=place, ready=False)
    assert daemon.wait() == 1
    daemon.wait_log(rf"listener\.failed .*{reason}")
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)


def test_fault_92_the_socket_of_another_living_program_stays(place: Path, start_daemon: Start) -> None:
    with bind(place / "pypoold.sock") as other:
        other.listen(5)
        daemon = start_daemon({"default": DEMO}, directory=place, ready=False)
        assert daemon.wait() == 1
        daemon.wait_log(r"listener\.failed .*another program is listening")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as c:
            c.connect(str(place / "pypoold.sock"))


def test_fault_92_a_daemon_removes_its_own_socket_only(daemon: Daemon) -> None:
    daemon.socket.unlink()
    with bind(daemon.socket):
        daemon.signal(signal.SIGTERM)
        check_end(daemon, 0)
        assert daemon.socket.is_socket(), "another's by now"
