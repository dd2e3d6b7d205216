"""An upgrade at a bad moment: with what is half done, with who does not read, with what dies just then."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_upgrade import upgrade
from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import BUILD, SANITIZED, SLOW, Daemon, pool
from tests.support.scenes import injecting, lines, now, pool_of, wait_dead, wait_queued, wait_running, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


class Program:
    """A copy of the daemon's program in a folder of its own, in whose place a script can be put that executes it in the end."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(BUILD / "python_worker", folder / "python_worker")
        self.path, self.real = folder / "pypoold", folder / "pypoold-real"
        shutil.copy(BUILD / "pypoold", self.path)
        shutil.copy(BUILD / "pypoold", self.real)

    def first(self, script: str) -> None:
        """What a shell does, without a process of its own, before the new program is executed; a trial is none of its business."""
        self._put(f'#!/bin/sh\ncase "$*" in *--handover=*) ;; *)\n{script}\n;; esac\nexec {self.real} "$@"\n')

    def damage(self, statement: str) -> None:
        """A statement of Python about `fd`, of which `size` bytes are handed over."""
        real = [f"real = {str(self.real)!r}", 'if not any("--handover=" in a for a in sys.argv):']
        handed = ['    fd = int(os.environ["PYPOOL_HANDOVER"])', "    size = os.fstat(fd).st_size", f"    {statement}"]
        lines = ["#!/usr/bin/python3 -ISB", "import os, sys", *real, *handed, "os.execv(real, [real, *sys.argv[1:]])"]
        self._put("\n".join(lines) + "\n")

    def _put(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self.path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def dies(pid: int) -> str:
    """That process is dead, and nobody has waited for it."""
    look = f'read -r _ _ state _ </proc/{pid}/stat; [ "$state" != Z ]'
    return f"kill -9 {pid}; while {look}; do :; done"


def test_a_worker_that_dies_during_it_is_found_dead(start_daemon: StartDaemon, program: Program) -> None:
    daemon = start_daemon({"default": pool("nasty", 3)}, program=program.path)
    with daemon.client() as c:
        call = c.start_execute("sleep", 600.0)
        busy = wait_running(c, "sleep")[0]["worker"]
        idle = next(w["worker"] for w in workers(c, "idle"))
        pids = {w["worker"]: w["pid"] for w in workers(c)}
        program.first("\n".join(dies(pids[number]) for number in (busy, idle)))
        upgrade(daemon)
        error = c.wait_error(call)
        assert (error.code, error.executed) == ("worker_died", "maybe") and error.cause["signal"] == signal.SIGKILL, error
        assert {wait_dead(c, number)["why"] for number in (busy, idle)} == {"crashed"}
        wait_workers(c, "idle", 3)


def test_a_signal_of_the_last_moment_is_not_lost(start_daemon: StartDaemon) -> None:
    """It comes when the daemon has left its loop for good, and before the other program is there."""
    no_leaks = {"ASAN_OPTIONS": "detect_leaks=0"} if SANITIZED else {}  # that does not work under strace
    daemon = start_daemon({"default": pool("nasty", 1)}, environment=no_leaks)
    page_of_the_trial_then_handover = 2
    with daemon.client() as c, injecting(daemon, "memfd_create", f"signal=SIGTERM:when={page_of_the_trial_then_handover}"):
        c.start("upgrade")
        assert daemon.wait() == 0
    assert "daemon.draining" in daemon.log()


def test_who_does_not_read_does_not_hold_it_up(start_daemon: StartDaemon) -> None:
    """Neither one that has said all it has to say, nor one that has a socket to come."""
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as half, daemon.client() as c, daemon.client(framing="bare") as lessee:
        large = half.start_execute("big", 6_000_000)
        half.shutdown_write()
        eventually(lambda: bool(daemon.status()["calls"]["completed"] == 1), "it is answered", 20 * SLOW)
        before = lessee.start_execute("big", 6_000_000)
        eventually(lambda: bool(daemon.status()["calls"]["completed"] == 2), "it is answered too", 20 * SLOW)
        asked = lessee.start("checkout", type="anonymous", direct=True)
        wait_workers(c, "busy", 1)
        assert upgrade(daemon) < 1_000_000 * SLOW
        assert len(half.wait(large).value()) == 6_000_000
        half.wait_closed()
        assert len(lessee.wait(before).value()) == 6_000_000
        lease = lessee.wait(asked).value()
        with Client(lessee.take_socket(), hello=False) as worker:
            assert worker.execute("pid") == lease["pid"]
        wait_workers(c, "idle", 2)


def test_who_has_not_read_much_is_heard_again_afterwards(start_daemon: StartDaemon) -> None:
    """Whoever has too much to read is not read from, until it has read: also when that began before the upgrade."""
    daemon = start_daemon({"default": pool("nasty", 1)}, max_frame="1M")
    with daemon.client() as c:
        large = c.start_execute("big", 4_000_000)
        eventually(lambda: bool(daemon.status()["calls"]["completed"] == 1), "it is answered", 20 * SLOW)
        upgrade(daemon)
        c.notify("of", nobody="knows")  # has no answer: nothing but the output that drains lets the daemon read on
        daemon.status()
        assert len(c.wait(large).value()) == 4_000_000
        assert c.call("ping") == "pong"


def memory_of(daemon: Daemon) -> int:
    """Bytes that it has mapped."""
    return int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has reserved all addresses")
def test_values_that_there_is_no_memory_for_cost_one_session(start_daemon: StartDaemon, program: Program) -> None:
    """Its worker, which stayed for it alone, leaves."""
    size = 40 << 20
    daemon = start_daemon({"default": pool("sessions", 1, session_max_bytes="64M", drain_timeout="600s")}, program=program.path)
    used = memory_of(daemon)
    with daemon.client() as c:
        home = c.execute("here", session="s")[0]
        for i in range(4):
            c.call("session.put", session="s", values={f"key{i}": b"x" * (size // 4)})
        c.call("pool.recycle")
        wait_workers(c, "draining", 1)
        program.first(f"ulimit -v {(used + size + size // 2) >> 10}")
        upgrade(daemon)
        assert c.fail_execute("here", session="s").code == "session_lost"
        eventually(lambda: not procfs.process(home), "it has left", 20 * SLOW)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has reserved all addresses")
def test_output_that_there_is_no_memory_for_costs_one_connection(start_daemon: StartDaemon, program: Program) -> None:
    size = 40 << 20
    daemon = start_daemon({"default": pool("nasty", 3)}, program=program.path)
    used = memory_of(daemon)
    with daemon.client() as poor, daemon.client() as c:
        lease = poor.call("checkout", type="anonymous")
        poor.start_execute("big", size)
        eventually(lambda: bool(daemon.status()["calls"]["completed"] == 2), "it is answered", 20 * SLOW)
        poor.start_execute("sleep", 600.0, lease=lease["lease"])
        poor.start_execute("sleep", 600.0)
        runs = c.start_execute("sleep", 1.0)
        wait_running(c, "sleep", 3)
        program.first(f"ulimit -v {(used + size + size // 2) >> 10}")  # for what is handed over, and not for a copy
        upgrade(daemon)
        assert c.wait(runs).value() == 1.0
        poor.wait_closed()
        wait_workers(c, "idle", 3)
        assert c.call("leases") == [] and c.execute("echo", 1) == 1


def test_what_is_told_of_a_call_that_hangs_is_as_before(start_daemon: StartDaemon) -> None:
    """Whether its interpreter answers is found out by a ping, and those of before have been answered."""
    daemon = start_daemon({"default": pool("nasty", 1, ping_interval="0")})
    with daemon.client() as c:

        def look() -> None:
            error = c.fail_execute("sleep", 60.0, timeout_ms=200)
            assert "asleep in clock_nanosleep" in error.message and "GIL" not in error.message, error

        look()
        upgrade(daemon)
        look()


def test_a_call_that_its_worker_has_not_read_is_no_obstacle(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, ping_interval="0")})
    with daemon.client() as c:
        worker = c.execute("pid")
        os.kill(worker, signal.SIGSTOP)
        large = c.start_execute("echo", b"x" * 9_000_000)
        wait_running(c, "echo")
        upgrade(daemon)
        upgrade(daemon)
        os.kill(worker, signal.SIGCONT)
        assert c.wait(large).value() == b"x" * 9_000_000
        assert c.execute("pid") == worker


def test_workers_that_leave_all_the_time_are_no_obstacle(start_daemon: StartDaemon) -> None:
    """Each serves one call, and takes its time to leave."""
    daemon = start_daemon({"default": pool("nasty", 4, max_requests=1, start="fork")}, drain_timeout="5s")
    ended, trouble = threading.Event(), []

    def work() -> None:
        try:
            with daemon.client() as c:
                while not ended.is_set():
                    assert c.execute("echo", 1) == 1
        except BaseException as e:
            trouble.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            upgrade(daemon)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert trouble == []


def test_the_end_of_a_worker_goes_on(start_daemon: StartDaemon) -> None:
    """It neither gives up its call nor leaves when it is told to: no stage of that begins anew."""
    daemon = start_daemon({"default": pool("nasty", 1, cancel_grace="1500ms")})
    with daemon.client() as c:
        worker = workers(c)[0]
        overdue = c.start_execute("ignore_term_forever", timeout_ms=400)
        assert c.wait_error(overdue).code == "deadline_exceeded"
        began = now()
        upgrade(daemon)
        assert workers(c, "busy")[0]["worker"] == worker["worker"], "it may still give up"
        wait_workers(c, "stopping", 1)
        upgrade(daemon)
        still = procfs.process(worker["pid"])
        assert still or now() - began > 1.5 + 0.5, "it has been killed too soon"
        assert wait_dead(c, worker["worker"])["why"] == "deadline"
        assert 1.5 < now() - began < 2.0 + 1.5 * SLOW, "the grace, and half a second from TERM to KILL"
        assert c.execute("echo", 1) == 1


def test_a_pool_keeps_its_size(start_daemon: StartDaemon) -> None:
    """Until the configuration says another one than before."""
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        c.call("pool.resize", pool="default", min_workers=3, max_workers=3)
        wait_workers(c, "idle", 3)
        upgrade(daemon)
        upgrade(daemon)
        wait_workers(c, "idle", 3)
        assert pool_of(c)["max_workers"] == 3
        daemon.write_config({"default": pool("nasty", 1)})
        upgrade(daemon)
        wait_workers(c, "idle", 1)


def test_a_worker_of_before_keeps_the_max_reply_that_it_was_told(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_reply="8M")})
    with daemon.client() as c:
        worker = c.execute("pid")
        daemon.write_config({"default": pool("nasty", 1, max_reply="1M")})
        upgrade(daemon)
        assert len(c.execute("big", 3_000_000)) == 3_000_000
        assert c.execute("pid") == worker
        os.kill(worker, signal.SIGKILL)
        assert c.fail_execute("big", 3_000_000).code == "too_large"


def test_what_ended_before_it_is_known(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        returned = c.call("checkout", type="anonymous")["lease"]
        c.call("checkin", lease=returned)
        over = c.call("checkout", type="anonymous", ttl_ms=50)["lease"]
        assert c.wait_notification()[0] == "lease_lost"
        upgrade(daemon)
        for lease, word in ((returned, "checked in"), (over, "ttl")):
            error = c.fail("execute", target="pid", lease=lease)
            assert error.code == "lease_expired" and word in error.message, error


def test_a_call_that_may_be_run_again_still_may(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("again", 2, breaker_failures=0, poison_kills=0)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        call = c.start_execute("hangs", str(ledger), idempotent=True, timeout_ms=60_000)
        eventually(lambda: len(lines(ledger)) == 1, "it runs", 10 * SLOW)
        upgrade(daemon)
        os.kill(int(lines(ledger)[0]), signal.SIGKILL)
        eventually(lambda: len(lines(ledger)) == 2, "it runs again", 10 * SLOW)
        upgrade(daemon)
        os.kill(int(lines(ledger)[1]), signal.SIGKILL)
        error = c.wait_error(call)
        assert (error.code, error.executed) == ("worker_died", "maybe"), "once, and not once for each program"


def test_a_call_whose_arguments_are_gone_is_not_taken_for_one_without(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Of a large call they are not kept when it has been sent; then it cannot be known again, nor recorded."""
    settings = pool("nasty", 1, poison_kills=1)
    daemon = start_daemon({"default": settings})
    with daemon.client() as c:
        large = c.start_execute("run_command", "sh", "-c", "sleep 600", "x" * 100_000)
        wait_running(c, "run_command")
        worker = workers(c, "busy")[0]["pid"]
        daemon.write_config({"default": {**settings, "record_failures": str(tmp_path / "kept")}})
        upgrade(daemon)
        os.kill(worker, signal.SIGKILL)
        assert c.wait_error(large).code == "worker_died"
        assert c.fail_execute("run_command").code == "app_error"
        assert len(list((tmp_path / "kept").iterdir())) == 1, "only that of the second"
        daemon.write_config({"default": settings})
        upgrade(daemon)  # closes the folder


def test_a_call_that_waits_keeps_its_number(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        c.start_execute("sleep", 600.0)
        wait_running(c, "sleep")
        waits = c.start_execute("echo", 7)
        wait_queued(c, 1)
        numbers = [r["call"] for r in c.call("queue")]
        upgrade(daemon)
        assert [r["call"] for r in c.call("queue")] == numbers
        assert c.call("cancel", call=numbers[0]) is True
        assert c.wait(waits).value() == 7


def test_a_line_that_is_half_written_is_not_lost(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, slow_call="500ms")})
    with daemon.client() as c:
        call = c.start_execute("write_and_sleep", "stdout", "half a li", 1.5, traceparent="00-11-22-01")
        wait_running(c, "write_and_sleep")
        eventually(lambda: bool(c.call("logs", worker=workers(c)[0]["worker"])), "it is read", 10 * SLOW)
        upgrade(daemon)
        c.wait(call).value()
        daemon.wait_log(r"half a li")
        daemon.wait_log(r"call\.slow.*00-11-22-01")


def test_a_handover_that_is_none_is_refused(tmp_path: Path) -> None:
    """Whoever can set a variable of the daemon's environment gets a word for it, and no more."""
    for value in ("", "nonsense", "-1", "0", "7", "4294967296", "99999999999999999999"):
        command, environment = [str(BUILD / "pypoold"), "--check"], {"PYPOOL_HANDOVER": value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 65 and "handed over" in done.stderr, (value, done)


@pytest.mark.parametrize(
    "statement, status, word",
    [
        ("os.ftruncate(fd, size // 2)", 1, "daemon.upgrade.damaged"),
        ("os.ftruncate(fd, 40)", 1, "daemon.upgrade.damaged"),
        ("os.ftruncate(fd, 3)", 65, "another version"),
        ("os.ftruncate(fd, 0)", 65, "cannot be found"),
        ('os.pwrite(fd, b"9", 1)', 65, "another version"),
    ],
)
def test_a_handover_that_is_damaged_ends_it(
    start_daemon: StartDaemon, program: Program, statement: str, status: int, word: str
) -> None:
    """In order: it says so, and nobody is left."""
    daemon = start_daemon({"default": pool("nasty", 2)}, program=program.path)
    family = procfs.descendants(daemon.pid)
    with daemon.client() as c:
        c.start_execute("sleep", 600.0)
        wait_running(c, "sleep")
        program.damage(statement)
        c.start("upgrade")
        assert daemon.wait() == status
        c.wait_closed()
    assert word in daemon.log()
    daemon.check_log()
    daemon.check_gone(family)
    daemon.discard()


def test_two_at_once_and_a_client_that_leaves(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        worker = c.execute("pid")
        for _ in range(5):
            with daemon.client() as impatient:
                impatient.start("upgrade")
                impatient.call("ping")
            upgrade(daemon)
        assert c.execute("pid") == worker

