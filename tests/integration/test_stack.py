"""worker.stack: where a worker is now, whatever it does; for machines and by pypoolctl for people."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import early_client, now, wait_dead, wait_running, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
Fields = dict[str, Any]


@pytest.fixture
def nasty(start_daemon: StartDaemon) -> Daemon:
    """A daemon with one worker, number 1."""
    return start_daemon({"default": pool("nasty", 1)})


def innermost(stack: str) -> str:
    """The line of the innermost frame."""
    return stack.splitlines()[1]


def look_until(c: Client, function: str, activity: str) -> Fields:
    """The answer about worker 1 as soon as its innermost frame is that function and it is seen doing that: to the daemon a
    call runs before its first line does."""

    def look() -> list[Fields]:
        told = c.call("worker.stack", worker=1)
        there = told["complete"] and innermost(told["stack"]).endswith(f" in {function}")
        return [told] if there and told["activity"] == activity else []

    return eventually(look, f"it is in {function}, {activity}", 10 * SLOW)[0]


def look_at(c: Client, activity: str, target: str, *args: Any) -> Fields:
    """The answer about worker 1 while it runs that call, which is cancelled then."""
    number = c.start_execute(target, *args)
    (run,) = wait_running(c, target)
    told = look_until(c, target, activity)
    assert (told["state"], told["call"]["call"], told["call"]["target"]) == ("busy", run["call"], target)
    assert told["call"]["answered"] is False and 0 < told["call"]["deadline_ms"] <= 30000
    c.call("cancel", id=number)
    c.wait(number)
    return told


def start_hiding(c: Client) -> int:
    """Worker 1 runs a call that does not show its stack. The id of the request."""
    number = c.start_execute("hide", 60, timeout_ms=50000)
    eventually(lambda: any(line["text"] == "hidden" for line in c.call("logs")), "it is hidden", 10 * SLOW)
    return number


def wait_asked(c: Client) -> None:
    """Until somebody waits for the stack of worker 1, which is busy."""
    eventually(lambda: bool(workers(c)[0]["call"]["stack_asked"]), "its stack is asked for", 10 * SLOW)


def test_an_idle_worker_waits_for_calls(nasty: Daemon) -> None:
    with nasty.client() as c:
        (worker,) = workers(c)
        told = c.call("worker.stack", worker=1)
        assert {k: told[k] for k in ("worker", "pool", "pid", "state", "phase", "call", "complete")} == {
            "worker": 1, "pool": "default", "pid": worker["pid"], "state": "idle", "phase": None, "call": None,
            "complete": True,
        }
        assert told["activity"].startswith("asleep in ")
        assert "/pypool_worker/channel.py" in innermost(told["stack"])
        assert c.execute("echo", 1) == 1


def test_a_python_loop_is_seen_running(nasty: Daemon) -> None:
    with nasty.client() as c:
        told = look_at(c, "running Python", "busy_python", 20)
        assert "nasty.py" in innermost(told["stack"])
        assert "/pypool_worker/" not in told["stack"], "frames of the worker around it are not shown"


def test_a_c_loop_that_holds_the_gil_is_seen_there(nasty: Daemon) -> None:
    with nasty.client() as c:
        number = c.start_execute("busy_c", 3 * SLOW, timeout_ms=60000)
        wait_running(c, "busy_c")
        look_until(c, "busy_c", "in C code that holds the GIL")
        assert c.wait(number, 60).error is None, "it goes on undisturbed"


def test_a_call_that_sleeps_or_waits_is_told_with_its_system_call(nasty: Daemon) -> None:
    with nasty.client() as c:
        look_at(c, "asleep in clock_nanosleep", "sleep", 20)
        look_at(c, "asleep in recvfrom", "block_on_socket")


def test_a_call_goes_on_undisturbed(nasty: Daemon) -> None:
    with nasty.client() as c:
        number = c.start_execute("sleep", 0.5)
        wait_running(c, "sleep")
        for _ in range(10):
            c.call("worker.stack", worker=1)
        assert c.wait(number).value() == 0.5


def test_a_stopped_worker_is_told_at_once_and_without_a_stack(nasty: Daemon) -> None:
    with nasty.client() as c:
        number = c.start_execute("sleep", 20)
        wait_running(c, "sleep")
        pid = workers(c)[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            told = eventually(  # the kernel stops it when it gets to it
                lambda: [t for t in [c.call("worker.stack", worker=1)] if t["activity"] == "stopped (state T)"],
                "it is stopped", 5 * SLOW,
            )[0]
            assert (told["stack"], told["complete"], told["state"]) == ("", False, "busy")
            shown = nasty.ctl("stack", "1")
            assert shown.returncode == 0 and "is busy, stopped (state T)\n" in shown.stdout
            assert shown.stdout.endswith("\nNo stack: it did not answer.\n")
        finally:
            os.kill(pid, signal.SIGCONT)
        c.call("cancel", id=number)
        c.wait(number)


def test_a_worker_that_imports_its_application_shows_where(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("hangs_in_import", 1)}, ready=False)
    with early_client(daemon) as c:
        wait_workers(c, "initializing", 1)
        told = look_until(c, "wait_for_licence", "asleep in clock_nanosleep")
        assert (told["state"], told["phase"], told["call"]) == ("initializing", "imports", None)
        shown = daemon.ctl("stack", "default/1").stdout
        assert "is initializing, asleep in clock_nanosleep\n  phase     imports\n" in shown


def test_what_is_no_worker_yet_has_no_stack(start_daemon: StartDaemon, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    daemon = start_daemon({"default": pool("nasty", 100, python=str(python))}, ready=False, start_concurrency=1)
    with early_client(daemon) as c:
        eventually(lambda: bool(c.call("workers")[0]["pid"]), "it has a process", 10 * SLOW)
        told = c.call("worker.stack", worker=1)
        assert (told["state"], told["phase"], told["stack"], told["complete"]) == ("starting", "interpreter", "", False)
        assert "No stack: it is only being started" in daemon.ctl("stack", "1").stdout
        error = c.fail("worker.stack", worker=100)
        assert error.code == "bad_request" and error.message.startswith("worker 100 has no process yet")


def test_a_dead_worker_and_one_that_is_not_known_are_refused(nasty: Daemon) -> None:
    with nasty.client() as c:
        assert c.fail_execute("crash", 9).code == "worker_died"
        wait_dead(c, 1)
        error = c.fail("worker.stack", worker=1)
        assert (error.code, error.executed) == ("bad_request", "never")
        assert error.message.startswith("worker 1 is dead, it was killed by signal 9 (SIGKILL)")
        assert c.fail("worker.stack", worker=10**6).message == "there has been no worker 1000000 yet"
        assert c.fail("worker.stack", worker=0).message == "there has been no worker 0 yet"
        assert "worker.stack needs worker" in c.fail("worker.stack").message
        assert "needs worker" in c.fail("worker.stack", pool="default").message
        assert re.search("accepted: pool,? worker", c.fail("worker.stack", lines=1).message)
    dead = nasty.ctl("stack", "1")
    assert dead.returncode == 1 and "bad_request: worker 1 is dead" in dead.stderr and not dead.stdout


def test_a_worker_that_does_not_answer_is_waited_for_half_a_second(nasty: Daemon) -> None:
    with nasty.client() as c:
        hiding = start_hiding(c)
        asked = now()
        told = c.call("worker.stack", worker=1)
        assert 0.5 <= now() - asked < 0.5 + SLOW
        assert (told["stack"], told["complete"]) == ("", False)
        assert told["activity"] == "asleep in clock_nanosleep", "that needs no answer"
        c.call("cancel", id=hiding)
        c.wait(hiding)
        assert c.execute("echo", 1) == 1
        assert c.call("worker.stack", worker=1)["complete"]


def test_a_client_that_goes_while_it_waits_is_forgotten(nasty: Daemon) -> None:
    with nasty.client() as c:
        hiding = start_hiding(c)
        other = nasty.client()
        other.start("worker.stack", worker=1)
        other.start("worker.stack", worker=1)
        wait_asked(c)
        other.close()
        eventually(lambda: len(c.call("clients")) == 1, "it is gone", 10 * SLOW)
        assert c.call("worker.stack", worker=1)["call"]["target"] == "hide"
        c.call("cancel", id=hiding)
        c.wait(hiding)


def test_a_half_closed_client_still_gets_what_it_waits_for(nasty: Daemon) -> None:
    with nasty.client() as c, nasty.client() as other:
        hiding = start_hiding(c)
        numbers = [other.start("worker.stack", worker=1) for _ in range(2)]
        other.shutdown_write()
        for number in numbers:
            assert other.wait(number).value()["call"]["target"] == "hide"
        other.wait_closed()
        c.call("cancel", id=hiding)
        c.wait(hiding)


def test_several_that_ask_at_once_are_told_the_same(nasty: Daemon) -> None:
    with nasty.client() as c, nasty.client() as other:
        hiding = start_hiding(c)
        asked = now()
        ours = [c.start("worker.stack", worker=1) for _ in range(3)]
        theirs = [other.start("worker.stack", worker=1) for _ in range(3)]
        told = [c.wait(n).value() for n in ours] + [other.wait(n).value() for n in theirs]
        assert now() - asked < 0.5 + SLOW, "one after the other would take 3 s"
        for one in told:
            del one["call"]["ms"], one["call"]["deadline_ms"], one["call"]["stack_asked"]
        assert all(one == told[0] for one in told) and told[0]["call"]["target"] == "hide"
        c.call("cancel", id=hiding)
        c.wait(hiding)


def test_while_it_waits_its_id_is_in_flight(nasty: Daemon) -> None:
    with nasty.client() as c, nasty.client() as other:
        hiding = start_hiding(c)
        other.send([0, 70, "worker.stack", [{"worker": 1}]])
        other.send([0, 70, "worker.stack", [{"worker": 1}]])
        other.send([0, 70, "execute", [{"target": "echo"}]])
        assert [other.wait_error(70).code for _ in range(2)] == ["duplicate_id"] * 2
        assert other.wait(70).value()["call"]["target"] == "hide"
        c.send([0, hiding, "worker.stack", [{"worker": 1}]])
        assert c.wait_error(hiding).code == "duplicate_id"
        c.call("cancel", id=hiding)
        c.wait(hiding)


def test_one_connection_waits_for_64_at_most(nasty: Daemon) -> None:
    with nasty.client() as c, nasty.client() as other:
        hiding = start_hiding(c)
        numbers = [other.start("worker.stack", worker=1) for _ in range(65)]
        error = other.wait_error(numbers[64])
        assert error.code == "quota" and "waits for 64 stacks and reloads already" in error.message
        assert c.call("worker.stack", worker=1)["call"]["target"] == "hide", "another connection may ask"
        for number in numbers[:64]:
            assert other.wait(number).value()["call"]["target"] == "hide"
        assert other.call("worker.stack", worker=1)["call"]["target"] == "hide", "and this one again"
        c.call("cancel", id=hiding)
        c.wait(hiding)


def test_the_death_of_a_worker_that_is_looked_at_is_told(nasty: Daemon) -> None:
    with nasty.client() as c, nasty.client() as other:
        hiding = start_hiding(c)
        pid = workers(c)[0]["pid"]
        number = other.start("worker.stack", worker=1)
        wait_asked(c)
        os.kill(pid, signal.SIGKILL)
        error = other.wait_error(number)
        assert error.code == "bad_request"
        assert error.message.startswith("worker 1 is dead, it was killed by signal 9 (SIGKILL)")
        assert c.wait_error(hiding).code == "worker_died"


def test_calls_that_are_over_in_no_time_are_caught_all_the_same(nasty: Daemon) -> None:
    asked = 50
    with nasty.client() as c, nasty.client() as other:
        c.execute("echo")
        waiting = [c.start_execute("echo", i) for i in range(100)]
        told = []
        for _ in range(asked):
            number = other.start("worker.stack", worker=1)
            while not other.is_silent(0) or waiting:  # keep it busy until the answer is there
                c.wait(waiting.pop(0)).value()
                waiting.append(c.start_execute("echo"))
                if not other.is_silent(0):
                    break
            told.append(other.wait(number).value())
        assert sum(t["complete"] for t in told) >= asked - 2, "without a second try it is half of them"
        for number in waiting:
            c.wait(number).value()


def test_a_daemon_that_waits_for_its_last_call_can_be_asked_where_that_is(nasty: Daemon) -> None:
    with nasty.client() as c:
        number = c.start_execute("sleep", 60, timeout_ms=50000)
        wait_running(c, "sleep")
        nasty.signal(signal.SIGTERM)
        nasty.wait_log(r"daemon\.draining")
        assert look_until(c, "sleep", "asleep in clock_nanosleep")["state"] in ("busy", "draining")
        c.call("cancel", id=number)
        assert c.wait_error(number).code == "cancelled"
        c.wait_closed()
    assert nasty.wait() == 0


def test_pypoolctl_shows_it_to_people_and_to_scripts(nasty: Daemon) -> None:
    with nasty.client() as c:
        number = c.start_execute("sleep", 20, timeout_ms=15000)
        (run,) = wait_running(c, "sleep")
        look_until(c, "sleep", "asleep in clock_nanosleep")
        pid = workers(c)[0]["pid"]
        shown = nasty.ctl("stack", "1")
        assert (shown.returncode, shown.stderr) == (0, "")
        lines = shown.stdout.splitlines()
        assert lines[0] == f"worker 1 (pid {pid}) of pool default is busy, asleep in clock_nanosleep"
        assert lines[1].split()[:3] == ["call", str(run["call"]), "(sleep)"] and re.search(r"deadline in 1[0-4]\.", lines[1])
        assert lines[2:4] == ["", "Stack (most recent call first):"]
        assert lines[4].startswith('  File "') and lines[4].endswith(" in sleep")
        as_json = json.loads(nasty.ctl("stack", "default/1", "--json").stdout)
        assert as_json["stack"].splitlines() == lines[3:] and as_json["complete"] is True
        c.call("cancel", id=number)
        c.wait(number)
    for wrong in ((), ("x",), ("default/",), ("-1",), ("1", "2")):
        assert nasty.ctl("stack", *wrong).returncode == 2, wrong
    unknown = nasty.ctl("stack", "77")
    assert unknown.returncode == 1 and "there has been no worker 77 yet" in unknown.stderr


def test_a_worker_that_never_had_a_process_has_no_stack(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    python = tmp_path / "python"
    python.symlink_to("/usr/bin/python3")
    daemon = start_daemon({"default": pool("nasty", 1, python=str(python))})
    with daemon.client() as c:
        python.unlink()
        os.kill(workers(c, "idle")[0]["pid"], signal.SIGKILL)
        wait_dead(c, 2)
        error = c.fail("worker.stack", worker=2)
        assert error.code == "bad_request" and error.message == "worker 2 is dead, it never had a process"
