"""Fault 24: a cancel before, during and after a call ends that call and no other."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Framing, pack
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import (
    assert_prompt,
    lines,
    notes,
    now,
    pool_of,
    wait_dead,
    wait_note,
    wait_queued,
    wait_running,
    wait_workers,
    workers,
)
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
TRIES = 7


def test_fault_24_a_cancel_before_the_call_exists_finds_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        assert c.call("cancel", id=10_000) is False
        assert c.call("cancel", call=10_000) is False
        number = c.start_execute("echo", "undisturbed")
        assert c.wait(number).value() == "undisturbed"


def test_fault_24_a_cancel_in_the_queue_ends_only_that_call_which_is_never_run(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        held = c.start_execute("sleep", 60)
        numbers = [c.start_execute("append_line", str(ledger), str(i)) for i in range(5)]
        wait_queued(c, 5)
        asked = now()
        assert c.call("cancel", id=numbers[2]) is True
        error = c.wait_error(numbers[2])
        assert now() - asked < 0.25 * SLOW
        assert (error.code, error.executed) == ("cancelled", "never")
        assert c.call("status")["calls"]["cancelled"] == 1
        assert c.call("cancel", id=held) is True
        assert c.wait_error(held).code == "cancelled"
        for i in (0, 1, 3, 4):
            c.wait(numbers[i]).value()
        assert lines(ledger) == ["0", "1", "3", "4"]


@pytest.mark.parametrize("way", ["sleep", "recv", "python"])
def test_fault_24_a_cancel_of_a_running_call_interrupts_its_handler_and_no_other(
    start_daemon: StartDaemon, tmp_path: Path, way: str
) -> None:
    daemon = start_daemon({"default": pool("recorder", 2)})
    ledger, answered, raised = tmp_path / "ledger", [], []
    with daemon.client() as c:
        pids = {w["pid"] for w in workers(c)}
        other = c.start_execute("record", str(ledger), "sleep", 60.0, "other", timeout_ms=60_000)
        wait_note(ledger, "begun", "other")
        for i in range(TRIES):
            number = c.start_execute("record", str(ledger), way, 60.0, str(i))
            wait_note(ledger, "begun", str(i))
            asked = now()
            cancel = c.start("cancel", id=number)
            error = c.wait_error(number)
            answered.append(now() - asked)
            assert c.wait(cancel).value() is True
            assert (error.code, error.executed) == ("cancelled", "maybe")
            raised.append(wait_note(ledger, "CallCancelled", str(i))["t"] - asked)
        assert [n["what"] for n in notes(ledger, "other")] == ["begun"], "the other call was hit"
        assert c.call("cancel", id=other) is True
        assert c.wait_error(other).code == "cancelled"
        wait_note(ledger, "CallCancelled", "other")
        wait_workers(c, "idle", 2)
        assert {w["pid"] for w in workers(c)} == pids, "clean workers were replaced"
    assert_prompt(f"answer of a cancelled call, {way}", answered, median=0.02)
    assert_prompt(f"exception in the handler after the cancel was sent, {way}", raised, median=0.02)


def test_fault_24_a_cancel_after_the_call_is_not_found_and_hits_nobody(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        for i in range(20):
            number = c.start_execute("echo", i)
            assert c.wait(number).value() == i
            following = c.start_execute("swallow_interrupt", 0.005)
            assert c.call("cancel", id=number) is False
            assert c.wait(following).value() == "not interrupted"


def test_fault_24_a_cancel_that_races_with_the_reply_has_one_outcome_and_spares_the_next_call(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    outcomes = set()
    with daemon.client() as c:
        for i in range(60):
            number = c.start_execute("sleep", 0.0002 * (i % 10))
            cancel = c.start("cancel", id=number)
            following = c.start_execute("swallow_interrupt", 0.002)
            found, reply = c.wait(cancel).value(), c.wait(number)
            assert (reply.error is not None) == found, "true, and yet it succeeded, or the reverse"
            if found:
                assert reply.error["code"] == "cancelled"
            outcomes.add(found)
            assert c.wait(following).value() == "not interrupted"
            assert not c.replies.get(number), "two replies"
    assert True in outcomes


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hundred_cancels_at_random_moments_hit_no_neighbour(start_daemon: StartDaemon, workers: int) -> None:
    daemon = start_daemon({"default": pool("nasty", workers)})
    rng = random.Random(workers)
    over = threading.Event()
    neighbours: list[int] = []
    trouble: list[BaseException] = []

    def call_on() -> None:
        try:
            with daemon.client() as other:
                while not over.is_set():
                    n = len(neighbours)
                    assert other.execute("echo", n) == n
                    neighbours.append(n)
        except BaseException as e:
            trouble.append(e)

    neighbour = threading.Thread(target=call_on)
    codes = Counter[str]()
    with daemon.client() as c:
        neighbour.start()
        for _ in range(100):
            number = c.start_execute("busy_python", rng.choice((0.001, 0.005)))
            over.wait(rng.uniform(0.0, 0.006))
            c.call("cancel", id=number)
            reply = c.wait(number)
            codes[reply.error["code"] if reply.error else "ok"] += 1
        over.set()
        neighbour.join()
    if trouble:
        raise trouble[0]
    print(f"{dict(codes)}, {len(neighbours)} calls of the neighbour")
    assert set(codes) <= {"ok", "cancelled"} and codes["cancelled"] > 0
    assert len(neighbours) > 20


def test_a_cancel_in_the_same_write_as_its_call_ends_it_before_it_starts(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        execute = [0, 500, "execute", [{"target": "append_line", "args": [str(ledger), "never"]}]]
        cancel = [0, 501, "cancel", [{"id": 500}]]
        c.send_bytes(c.frame(pack(execute)) + c.frame(pack(cancel)))
        assert c.wait(501).value() is True
        error = c.wait_error(500)
        assert (error.code, error.executed) == ("cancelled", "never")
        c.execute("append_line", str(ledger), "the next")
        assert lines(ledger) == ["the next"]


def test_an_id_is_of_its_own_connection_only(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        number = c.start_execute("sleep", 1.0)
        wait_running(other, "sleep")
        assert other.call("cancel", id=number) is False
        assert c.wait(number).value() == 1.0


def test_a_call_can_be_cancelled_from_another_connection_by_its_daemon_wide_number(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        number = c.start_execute("sleep", 60)
        call = wait_running(other, "sleep")[0]["call"]
        assert other.call("cancel", call=call) is True
        error = c.wait_error(number)
        assert (error.code, error.executed) == ("cancelled", "maybe")
        assert other.call("cancel", call=call) is False
        assert not other.notifications and other.is_silent(0.02)


def test_a_second_cancel_of_the_same_call_is_not_found(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        number = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        assert [c.call("cancel", id=number), c.call("cancel", id=number)] == [True, False]
        assert c.wait_error(number).code == "cancelled"
        assert not c.replies.get(number)


def test_a_cancel_that_names_no_call_is_a_bad_request(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    wrong: list[dict[str, Any]] = [{}, {"id": 1, "call": 1}, {"id": "seven"}, {"id": -1}]
    with daemon.client() as c:
        for params in wrong:
            error = c.fail("cancel", **params)
            assert (error.code, error.executed) == ("bad_request", "never"), params


def test_a_cancelled_handler_that_goes_on_is_killed_after_the_grace(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="200ms")})
    with daemon.client() as c:
        worker = workers(c)[0]
        number = c.start_execute("record", str(tmp_path / "ledger"), "ignore", 60.0, "stubborn")
        wait_note(tmp_path / "ledger", "begun", "stubborn")
        assert c.call("cancel", id=number) is True
        assert c.wait_error(number).code == "cancelled"
        following = c.start_execute("pid")
        dead = wait_dead(c, worker["worker"])
        assert dead["why"] == "cancelled" and "killed by pypoold" in dead["exit"]
        assert c.wait(following).value() != worker["pid"]


@pytest.mark.parametrize("framing", ["prefixed", "bare"])
def test_a_closed_connection_cancels_its_running_calls_and_the_clean_worker_is_kept(
    start_daemon: StartDaemon, tmp_path: Path, framing: Framing
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        pid = workers(c)[0]["pid"]
        with daemon.client(framing=framing) as goes:
            goes.start_execute("record", str(ledger), "sleep", 60.0, "running")
            goes.start_execute("record", str(ledger), "sleep", 60.0, "waiting")
            wait_note(ledger, "begun", "running")
            wait_queued(c, 1)
        wait_note(ledger, "CallCancelled", "running")
        wait_workers(c, "idle", 1)
        assert c.execute("pid") == pid
        assert notes(ledger, "waiting") == []
        assert pool_of(c)["abandoned"] == 2 and pool_of(c)["died"] == 0


def test_a_waiting_checkout_can_be_cancelled(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        held = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        number = c.start("checkout", type="anonymous")
        wait_queued(c, 1)
        assert c.call("cancel", id=number) is True
        error = c.wait_error(number)
        assert (error.code, error.executed) == ("cancelled", "never")
        assert c.call("cancel", id=held) is True
        assert c.wait_error(held).code == "cancelled"
        eventually(lambda: len(workers(c, "idle")) == 1, "nobody holds the worker", 5 * SLOW)
        assert workers(c)[0]["lease"] == 0


def test_a_cancel_beside_a_worker_that_dies_has_one_outcome(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, poison_kills=0)})  # the same call loses four workers
    with daemon.client() as c:
        for _ in range(4):
            wait_workers(c, "idle", 1)
            number = c.start_execute("sleep", 60)
            wait_running(c, "sleep")
            os.kill(workers(c, "busy")[0]["pid"], signal.SIGKILL)
            found = c.call("cancel", id=number)
            error = c.wait_error(number)
            assert error.code == ("cancelled" if found else "worker_died")
            assert not c.replies.get(number)
        assert c.execute("echo", 1) == 1
