"""Deadlines: the answer, the interrupt, the kill; and that a call which was not started in time is never run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.measured import report
from tests.support.scenes import (
    assert_prompt,
    lines,
    notes,
    now,
    wait_dead,
    wait_note,
    wait_queued,
    wait_running,
    wait_workers,
    workers,
)
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]

TRIES = 5
FRAMES = {"sleep": "block_in_sleep", "recv": "block_in_recv", "python": "run_in_python", "gil": "hold_the_gil"}


@pytest.mark.parametrize("way", FRAMES)
def test_a_call_past_its_deadline_is_answered_within_50_ms_with_its_python_stack(
    start_daemon: StartDaemon, tmp_path: Path, way: str
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger, late = tmp_path / "ledger", []
    seconds = 0.9 if way == "gil" else 60.0  # nothing cuts that C code short, so it has to end by itself
    with daemon.client() as c:
        for i in range(TRIES):
            sent = now()
            error = c.fail_execute("record", str(ledger), way, seconds, str(i), timeout_ms=300)
            late.append(now() - sent - 0.300)
            assert (error.code, error.executed) == ("deadline_exceeded", "maybe"), error
            assert FRAMES[way] in error.cause["stack"], error
            assert re.search(rf"deadline 300 ms exceeded in record: recorder\.py line \d+ in {FRAMES[way]}", error.message), error
            wait_note(ledger, "DeadlineExceeded", str(i))
        assert len({n["pid"] for n in notes(ledger)}) == 1, "the worker was clean, yet it was replaced"
    assert min(late) >= 0, report("early", late)
    assert_prompt(f"answer after the deadline, {way}", late, median=0.05)


@pytest.mark.parametrize("way", ["sleep", "recv", "python"])
def test_the_handler_of_a_call_past_its_deadline_sees_the_exception_promptly(
    start_daemon: StartDaemon, tmp_path: Path, way: str
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger, after_deadline, after_answer = tmp_path / "ledger", [], []
    with daemon.client() as c:
        for i in range(TRIES):
            c.fail_execute("record", str(ledger), way, 60.0, str(i), timeout_ms=300)
            answered = now()
            note = wait_note(ledger, "DeadlineExceeded", str(i))
            after_deadline.append(note["t"] - note["deadline"])
            after_answer.append(max(0.0, note["t"] - answered))
    assert min(after_deadline) >= 0
    assert_prompt(f"exception in the handler after the deadline, {way}", after_deadline, median=0.05)
    assert_prompt(f"exception in the handler after the caller has its answer, {way}", after_answer, median=0.02)


def test_the_deadline_that_a_handler_sees_counts_from_the_arrival_of_the_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        sent = now()
        seen = c.execute("context", timeout_ms=5000)
        received = now()
        assert sent + 5 <= seen["deadline"] <= received + 5
        assert 0 < seen["remaining"] <= 5


def test_waiting_in_the_queue_counts_towards_the_deadline(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        holder = c.start_execute("sleep", 0.4)
        sent = now()
        error = c.fail_execute("sleep", 20, timeout_ms=600)
        took = now() - sent
        assert c.wait(holder).value() == 0.4
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        assert error.cause["waited_ms"] >= 300 and error.cause["run_ms"] < 400
        assert 0.6 <= took < 0.6 + 0.25 * SLOW


def test_a_handler_that_ignores_the_interrupt_is_killed_after_the_grace(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="400ms")})
    with daemon.client() as c:
        worker = workers(c)[0]
        sent = now()
        c.fail_execute("record", str(tmp_path / "ledger"), "ignore", 60.0, timeout_ms=300)
        dead = wait_dead(c, worker["worker"])
        lived = now() - sent - 0.3
        assert dead["why"] == "deadline" and "killed by pypoold (deadline, SIG" in dead["exit"]
        assert 0.4 <= lived < 0.4 + 0.6 * SLOW, lived
        assert c.execute("pid") != worker["pid"]
        assert [n["what"] for n in notes(tmp_path / "ledger")] == ["begun"]


def test_fault_35_c_code_that_holds_the_gil_is_killed_after_the_grace(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="200ms")})
    with daemon.client() as c, daemon.client() as other:
        worker = workers(c)[0]
        error = c.fail_execute("record", str(tmp_path / "ledger"), "gil", 60.0, timeout_ms=300)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        waiting = other.start_execute("pid", timeout_ms=20000)
        assert wait_dead(c, worker["worker"])["why"] == "deadline"
        assert other.wait(waiting).value() != worker["pid"]


def test_fault_35_the_slot_is_not_given_away_before_the_reap(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="1500ms")})
    with daemon.client() as c, daemon.client() as other:
        worker = workers(c)[0]
        process = procfs.process(worker["pid"])
        assert process is not None
        c.fail_execute("record", str(tmp_path / "ledger"), "ignore", 60.0, timeout_ms=300)
        waiting = other.start_execute("pid", timeout_ms=20000)
        wait_queued(c, 1)
        busy = workers(c)[0]  # still within the grace
        assert (busy["state"], busy["call"]["target"], busy["call"]["answered"]) == ("busy", "record", True)
        assert other.wait(waiting).value() != worker["pid"]
        assert not process.is_alive()
        pids = {w["pid"] for w in workers(c)}
        assert worker["pid"] not in pids and len(pids) == 1


def test_a_late_reply_reaches_nobody_and_its_worker_serves_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        pid = c.execute("pid")
        number = c.start_execute("swallow_interrupt", 60, timeout_ms=1000)
        wait_running(other, "swallow_interrupt")
        waiting = other.start_execute("pid")
        assert c.wait_error(number).code == "deadline_exceeded"
        assert other.wait(waiting).value() == pid, "the handler came back, so its worker is clean"
        assert c.is_silent(0.05), "the reply that came after the answer was forwarded"
        assert c.execute("echo", "next") == "next"
        assert c.order.count(number) == 1


def test_a_call_that_ends_just_in_time_is_a_success_and_no_interrupt_hits_the_next(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        for i in range(20):
            first = c.start_execute("sleep", 0.02, timeout_ms=20 + i % 4)
            second = c.start_execute("swallow_interrupt", 0.01)
            reply = c.wait(first)
            assert reply.error is None or reply.error["code"] == "deadline_exceeded"
            assert c.wait(second).value() == "not interrupted"


def expire(c: Client, ledger: Path) -> None:
    error = c.fail_execute("append_line", str(ledger), "deadline", timeout_ms=100)
    assert (error.code, error.executed) == ("deadline_exceeded", "never")
    assert "no free worker for append_line in " in error.message and ": sleep for " in error.message
    assert error.cause["workers"][0]["target"] == "sleep"


def expire_in_queue(c: Client, ledger: Path) -> None:
    error = c.fail_execute("append_line", str(ledger), "queue", timeout_ms=20000, queue_timeout_ms=100)
    assert (error.code, error.executed) == ("queue_timeout", "never")
    assert "1 of 1 busy" in error.message and "you were first in the queue" in error.message


def cancel_in_queue(c: Client, ledger: Path) -> None:
    number = c.start_execute("append_line", str(ledger), "cancelled")
    wait_queued(c, 1)
    assert c.call("cancel", id=number) is True
    error = c.wait_error(number)
    assert (error.code, error.executed) == ("cancelled", "never")




@pytest.mark.parametrize("give_up", [expire, expire_in_queue, cancel_in_queue])
def test_a_waiter_that_gave_up_leaves_the_queue_at_once_and_is_never_run(
    start_daemon: StartDaemon, tmp_path: Path, give_up: Callable[[Client, Path], None]
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as holder, daemon.client() as c:
        held = holder.start_execute("sleep", 60)
        wait_running(c, "sleep")
        give_up(c, ledger)
        assert [r["target"] for r in c.call("queue")] == ["sleep"]
        assert holder.call("cancel", id=held) is True
        assert holder.wait_error(held).code == "cancelled"
        c.execute("append_line", str(ledger), "the next one")
        assert lines(ledger) == ["the next one"]


def test_a_waiter_whose_client_went_leaves_the_queue_at_once_and_is_never_run(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as holder, daemon.client() as c:
        held = holder.start_execute("sleep", 60)
        wait_running(c, "sleep")
        with daemon.client() as goes:
            goes.start_execute("append_line", str(ledger), "disconnected")
            wait_queued(c, 1)
        eventually(lambda: [r["target"] for r in c.call("queue")] == ["sleep"], "the waiter is gone", 0.3 * SLOW)
        assert holder.call("cancel", id=held) is True
        assert holder.wait_error(held).code == "cancelled"
        c.execute("append_line", str(ledger), "the next one")
        assert lines(ledger) == ["the next one"]
        assert c.call("status")["calls"]["abandoned"] == 1


def test_expired_waiters_in_the_middle_of_a_queue_do_not_disturb_the_others(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        held = c.start_execute("sleep", 60)
        numbers = {}
        for i in range(20):
            limit: dict[str, Any] = {"timeout_ms": 60} if i % 2 else {}
            numbers[i] = c.start_execute("append_line", str(ledger), str(i), **limit)
        for i in range(1, 20, 2):
            error = c.wait_error(numbers[i])
            assert (error.code, error.executed) == ("deadline_exceeded", "never")
        assert c.call("cancel", id=held) is True
        assert c.wait_error(held).code == "cancelled"
        for i in range(0, 20, 2):
            c.wait(numbers[i]).value()
        assert lines(ledger) == [str(i) for i in range(0, 20, 2)], "the others ran once each, in their order"


def test_max_timeout_caps_what_a_call_may_ask_for(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_timeout="150ms")})
    with daemon.client() as c:
        sent = now()
        error = c.fail_execute("sleep", 20, timeout_ms=2**31)
        assert error.code == "deadline_exceeded" and "deadline 150 ms exceeded" in error.message
        assert 0.15 <= now() - sent < 0.15 + 0.25 * SLOW


def test_output_of_the_call_is_in_the_error_and_none_of_the_call_before(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, cancel_grace="200ms")})
    with daemon.client() as c:
        c.execute("print_then", 1)
        error = c.fail_execute("sleep", 20, timeout_ms=100)
        assert error.cause["output"] == []
        wait_workers(c, "idle", 1)
