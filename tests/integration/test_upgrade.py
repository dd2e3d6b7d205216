"""The daemon executes its program anew, in the same process, and nobody notices."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import pack
from tests.support.daemon import BUILD, SANITIZED, SLOW, Daemon, pool
from tests.support.direct import Direct
from tests.support.floor import start_floor
from tests.support.measured import report
from tests.support.scenes import wait_running, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
UPGRADES = int(os.environ.get("PYPOOL_UPGRADES", "5"))


def upgrade(daemon: Daemon) -> int:
    """µs that nobody was served."""
    with daemon.client() as c:
        told = c.call("upgrade")
    assert set(told) == {"from", "to", "paused_us"} and told["from"] == told["to"], told
    return int(told["paused_us"])


def test_idle_connections_and_workers_do_not_notice(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2), "forks": pool("nasty", 2, start="fork")})
    with daemon.client() as old, daemon.client(framing="bare") as bare, daemon.client(hello=False) as silent:
        assert old.execute("echo", 1) == 1 and bare.execute("echo", 2) == 2
        before = {w["worker"]: w["pid"] for w in workers(old)}
        assert silent.execute("echo", 3, pool="default") == 3
        upgrade(daemon)
        assert old.execute("echo", 4) == 4 and bare.execute("echo", 5) == 5
        assert silent.execute("echo", 6, pool="default") == 6
        assert {w["worker"]: w["pid"] for w in workers(old)} == before
        assert old.execute("pid", pool="forks") in before.values()
    daemon.wait_log(r"daemon\.upgraded")


def test_a_call_that_runs_goes_on_and_is_answered_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        runs = c.start_execute("sleep", 1.0, meta=True)
        overdue = c.start_execute("sleep", 60.0, timeout_ms=1200)
        wait_running(c, "sleep", 2)
        upgrade(daemon)
        reply = c.wait(runs).value()
        assert reply["value"] == 1.0 and reply["meta"]["attempts"] == 1
        error = c.wait_error(overdue)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe"), error
        assert "sleep" in error.message
        assert c.call("status")["calls"]["running"] == 0


def test_calls_that_wait_are_carried_over_with_their_deadlines(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        runs = c.start_execute("sleep", 2.5)
        wait_running(c, "sleep", 1)
        waits = [c.start_execute("echo", i) for i in range(5)]
        short = other.start_execute("echo", 1, queue_timeout_ms=1200)
        large = other.start_execute("echo", b"x" * 3_000_000)
        eventually(lambda: len(c.call("queue")) == 8, "they wait", 10 * SLOW)
        upgrade(daemon)
        error = other.wait_error(short)
        assert error.code == "queue_timeout" and 1200 <= error.cause["waited_ms"] < 2400 * SLOW, error
        assert c.wait(runs).value() == 2.5
        assert [c.wait(number).value() for number in waits] == list(range(5))
        assert other.wait(large).value() == b"x" * 3_000_000


def test_a_call_that_was_taken_is_not_refused_by_the_next_program(start_daemon: StartDaemon) -> None:
    """More than max_queue wait where others could be served at once, and go on waiting when those have gone."""
    daemon = start_daemon({"default": pool("nasty", 3, max_queue=2)})
    with daemon.client() as c:
        runs = c.start_execute("sleep", 1.0, session="s")
        wait_running(c, "sleep", 1)
        waits = [c.start_execute("echo", i, session="s") for i in range(4)]
        eventually(lambda: len(c.call("queue")) == 5, "they wait", 10 * SLOW)
        c.call("pool.pause", pool="default")
        upgrade(daemon)
        c.call("pool.resume", pool="default")
        assert c.wait(runs).value() == 1.0
        assert [c.wait(number).value() for number in waits] == list(range(4))


def test_a_cancel_after_the_upgrade_finds_the_call_of_before(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        runs = c.start_execute("sleep", 600.0)
        wait_running(c, "sleep", 1)
        upgrade(daemon)
        assert c.call("cancel", id=runs) is True
        assert c.wait_error(runs).code == "cancelled"
        assert c.execute("echo", 1) == 1, "the worker was interrupted and serves"


def test_sessions_and_leases_go_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("sessions", 3)})
    with daemon.client() as c, daemon.client() as other:
        home = c.execute("here", session="s")[0]
        c.call("session.put", session="s", values={"first": 41})
        lease = c.call("checkout", type="anonymous")
        c.start_execute("sleep", 0.6, session="s")
        asked = c.start("checkout", type="session", session="s")
        wait_running(c, "sleep")
        waits = other.start_execute("here", session="s")
        held = c.wait(asked).value()
        assert c.execute("pid", lease=lease["lease"]) == lease["pid"]
        upgrade(daemon)
        assert c.execute("pid", lease=lease["lease"]) == lease["pid"]
        assert c.execute("here", lease=held["lease"])[0] == home
        assert other.is_silent(0.1), other.wait(waits)
        c.call("checkin", lease=held["lease"])
        assert other.wait(waits).value() == [home, 3]
        assert c.execute("bump", session="s") == 42
        assert c.call("checkin", lease=lease["lease"])
        assert [x["session"] for x in c.call("session.list")] == ["s"]


def test_values_that_wait_for_the_end_of_a_lease_still_do(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("sessions", 2)})
    with daemon.client() as c, daemon.client() as other:
        c.start_execute("sleep", 1.0, session="s")
        asked = c.start("checkout", type="session", session="s")
        wait_running(c, "sleep")
        put = other.start("session.put", session="s", values={"first": 7})
        delete = other.start("session.delete", session="s", keys=["nothing"])
        lease = c.wait(asked).value()
        upgrade(daemon)
        assert c.execute("bump", lease=lease["lease"]) == 1, "nobody else writes as long as it lasts"
        assert other.is_silent(0.1)
        c.call("checkin", lease=lease["lease"])
        assert other.wait(put).value() is True and other.wait(delete).value() == 0
        assert c.call("session.get", session="s", key="first") == 7


def test_a_direct_lease_goes_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        with Direct(c) as direct:
            assert direct.worker.execute("echo", 1) == 1
            slow = direct.worker.start_execute("sleep", 0.5)
            upgrade(daemon)
            assert direct.worker.wait(slow).value() == 0.5
            assert direct.worker.execute("echo", 2) == 2
            direct.checkin()
            direct.worker.wait_closed()
        assert c.execute("echo", 3) == 3


def test_a_message_that_is_half_sent_is_finished_afterwards(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client(framing="bare") as bare:
        for client in (c, bare):
            frame = client.frame(pack([0, 77, "execute", [{"target": "echo", "args": [b"y" * 200_000]}]]))
            client.send_bytes(frame[:100_001])
            upgrade(daemon)
            client.send_bytes(frame[100_001:])
            assert client.wait(77).value() == b"y" * 200_000


def test_replies_that_are_not_read_are_not_lost(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        numbers = [c.start_execute("big", 3_000_000) for _ in range(4)]
        eventually(lambda: bool(daemon.status()["calls"]["completed"] == 4), "they are answered", 20 * SLOW)
        upgrade(daemon)
        for number in numbers:
            assert len(c.wait(number).value()) == 3_000_000


def test_a_subscription_goes_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        c.call("subscribe", kinds=["lease"])
        upgrade(daemon)
        lease = other.call("checkout", type="anonymous")["lease"]
        name, event = c.wait_notification()
        assert name == "event" and event[0]["lease"] == lease


def test_who_listens_is_told_that_processes_have_gone_without_a_word(start_daemon: StartDaemon) -> None:
    """A template ends with its program, which can tell nobody: that is something missed."""
    daemon = start_daemon({"default": pool("nasty", 1, start="fork"), "other": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as elsewhere:
        c.call("subscribe", kinds=["worker"])
        elsewhere.call("subscribe", kinds=["worker"], pools=["other"])
        upgrade(daemon)
        event = c.wait_notification()[1][0]
        assert (event["what"], event["template"], event["dropped"]) == ("starting", True, 1)
        assert "dropped" not in c.wait_notification()[1][0]
        assert elsewhere.call("subscribe", kinds=[])["dropped"] == 0


def test_a_program_that_cannot_take_over_is_not_executed(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Neither one that fails, nor one that is gone, nor a configuration that is no good."""
    copy = tmp_path / "bin"
    shutil.copytree(BUILD / "python_worker", copy / "python_worker")
    shutil.copy(BUILD / "pypoold", copy / "pypoold")
    daemon = start_daemon({"default": pool("nasty", 1)}, program=copy / "pypoold")
    with daemon.client() as c:
        worker = c.execute("pid")

        def fails(*words: str) -> None:
            error = c.fail("upgrade")
            assert error.code == "init_failed" and all(word in error.message for word in words), error
            assert c.execute("pid") == worker

        (copy / "pypoold").unlink()
        fails("cannot be executed", "No such file")
        (copy / "pypoold").write_text("#!/bin/sh\necho no such library >&2; exit 127\n")
        (copy / "pypoold").chmod(0o755)
        fails("exit status 127", "no such library")
        (copy / "pypoold").write_text("#!/bin/sh\nkill -SEGV $$\n")
        fails("signal 11")
        (copy / "pypoold").unlink()
        shutil.copy(BUILD / "pypoold", copy / "pypoold")
        text = daemon.config.read_text()
        daemon.config.write_text(text + "nonsense = 1\n")
        fails("configuration", "nonsense")
        assert "\n" not in c.fail("upgrade").message
        daemon.config.write_text(text)
        assert c.call("upgrade")["to"]
        assert c.execute("pid") == worker


def test_one_upgrade_at_a_time(start_daemon: StartDaemon, tmp_path: Path) -> None:
    program, gate = tmp_path / "pypoold", tmp_path / "gate"
    shutil.copytree(BUILD / "python_worker", tmp_path / "python_worker")
    shutil.copy(BUILD / "pypoold", program)
    daemon = start_daemon({"default": pool("nasty", 1)}, program=program)
    os.mkfifo(gate)
    program.unlink()
    program.write_text(f"#!/bin/sh\nread line <{gate}\necho not now\nexit 1\n")
    program.chmod(0o755)
    with daemon.client() as c, daemon.client() as other:
        first = c.start("upgrade")
        assert c.call("ping") == "pong", "it has been read"
        error = other.fail("upgrade")
        assert error.code == "bad_request" and "already" in error.message
        assert other.execute("echo", 1) == 1, "it serves meanwhile"
        gate.write_text("go\n")
        assert "not now" in c.wait_error(first).message


def test_nothing_is_lost_under_load(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("sessions", 4), "forks": pool("nasty", 2, start="fork")})
    ended = threading.Event()
    trouble: list[object] = []
    calls = [0] * 8

    def work(number: int) -> None:
        try:
            with daemon.client() as c:
                seen = 0
                while not ended.is_set():
                    if number % 2:
                        seen += 1
                        _, n = c.execute("here", session=f"s{number}")
                        assert n == seen, (n, seen)
                    else:
                        assert c.execute("echo", calls[number], pool="forks") == calls[number]
                    calls[number] += 1
        except BaseException as e:
            trouble.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    idle = [daemon.client() for _ in range(200)]
    paused: list[float] = []
    try:
        for _ in range(UPGRADES):
            paused.append(upgrade(daemon) / 1e6)
            before = sum(calls)
            eventually(lambda: sum(calls) > before + 50, "calls go on", 20 * SLOW)
        assert trouble == []
        for c in idle:
            assert c.call("ping") == "pong"
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for c in idle:
            c.close()
    assert trouble == []
    report("an upgrade with 209 connections and 8 callers: nobody is served", paused)


@pytest.mark.skipif(SANITIZED, reason="a time that is measured")
def test_with_1000_connections_it_takes_a_moment(start_daemon: StartDaemon) -> None:
    """10 ms are wanted, and where the program alone needs more than a third of that for its start, no more than three starts;
    the best of some, since others have this machine too."""
    wanted = max(0.010, 3 * start_floor(BUILD / "pypoold")) * SLOW
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    daemon = start_daemon({"default": pool("nasty", 2)}, uid_max_connections=0)
    paused: list[float] = []
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        idle = [stack.enter_context(daemon.client()) for _ in range(1000)]
        while len(paused) < 30 and min(paused, default=1.0) > wanted:
            paused.append(upgrade(daemon) / 1e6)
        told = report("an upgrade with 1,001 connections: nobody is served", paused)
        assert all(c.call("ping") == "pong" for c in idle)
    assert min(paused) <= wanted, (told, wanted)
