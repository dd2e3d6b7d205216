"""Workers that reply wrongly, too late, twice or with their last breath: stubs, see tests/chaos/stub/script.c."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.history import by_tag, read_events
from tests.support.client import CallError, Client
from tests.support.daemon import BUILD, Daemon, pool
from tests.support.scenes import failing, now, pool_of, wait_dead, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]

STUB = BUILD / "tests" / "stub_worker"
DEATHS = 10_000
DEPTH = 64


@pytest.fixture(autouse=True)
def built_stub() -> None:
    assert STUB.exists(), f"{STUB} does not exist: make tests"


def stub(log: Path, n: int = 1, **settings: Any) -> dict[str, Any]:
    """A pool of scripted workers whose log is `log`."""
    return {**pool("stub", n), "python": str(STUB), "environment": [f"STUB_LOG={log}"], **settings}


def test_fault_32_a_full_reply_before_an_instant_death_is_delivered_10000_of_10000(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    workers_die = stub(tmp_path / "log", 6, breaker_failures=0)
    daemon = start_daemon({"default": workers_die}, log_level="warning", start_concurrency=8)
    ends = (0, 1, 109, 115)  # exit statuses, SIGKILL, SIGTERM
    with daemon.client(timeout=60.0) as c:
        waiting: list[int] = []
        for i in range(DEATHS + DEPTH):
            if i < DEATHS:
                waiting.append(c.start_execute("run", f"t{i}", "reply_and_die", ends[i % len(ends)]))
            if i >= DEPTH:
                assert c.wait(waiting[i - DEPTH]).value() == f"t{i - DEPTH}"
        wait_workers(c, "idle", 6)
        counters = pool_of(c)
        assert (counters["completed"], counters["failed"]) == (DEATHS, 0)
        assert counters["died"] == DEATHS and counters["spawned"] == DEATHS + 6
    runs = by_tag(read_events(tmp_path / "log"))
    assert len(runs) == DEATHS
    assert {"".join(e.letter for e in its) for its in runs.values()} == {"SE"}, "each ran once"


def died_of_its_protocol(c: Client, worker: int) -> None:
    dead = wait_dead(c, worker)
    assert dead["why"] == "protocol" and "SIGKILL" in dead["exit"], dead


def is_alone_and_well(c: Client) -> None:
    """The next call is answered, by another worker than before, and nothing else comes."""
    assert c.execute("run", "next", "echo", 0) == "next"
    assert c.is_silent(0.02), "something of the worker was forwarded"


WRONG = [("wrong_id", 0), ("request", 0), *(("garbage", kind) for kind in range(7))]


@pytest.mark.parametrize("what,n", WRONG, ids=[f"{what}-{n}" for what, n in WRONG])
def test_fault_37_38_a_reply_that_is_wrong_is_never_forwarded_and_its_worker_is_killed(
    start_daemon: StartDaemon, tmp_path: Path, what: str, n: int
) -> None:
    # the kinds of garbage: no MessagePack, an empty frame, an oversized one, too short, an odd request, no array, 2 elements
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        error = c.fail_execute("run", "bad", what, n)
        assert (error.code, error.executed) == ("worker_protocol", "maybe")
        assert "WRONG" not in str(error.raw)
        died_of_its_protocol(c, worker)
        is_alone_and_well(c)


@pytest.mark.parametrize("n", [0, 30], ids=["at-once", "while-idle"])
@pytest.mark.parametrize("what", ["twice", "unasked"])
def test_fault_37_a_second_reply_kills_its_worker_and_the_first_counts(
    start_daemon: StartDaemon, tmp_path: Path, what: str, n: int
) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        assert c.execute("run", "first", what, n) == "first"
        died_of_its_protocol(c, worker)
        is_alone_and_well(c)


def test_fault_37_a_second_reply_during_the_next_call_is_not_taken_for_its_answer(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        first = c.start_execute("run", "first", "twice", 500)
        second = c.start_execute("run", "second", "echo", 0)
        assert c.wait(first).value() == "first"
        error = c.wait_error(second)
        assert error.code == "worker_protocol" and "WRONG" not in str(error.raw)
        is_alone_and_well(c)


@pytest.mark.parametrize("cut", range(8))
def test_fault_38_a_reply_whose_end_is_missing_is_no_reply(start_daemon: StartDaemon, tmp_path: Path, cut: int) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        error = c.fail_execute("run", "cut", "cut", cut)
        assert error.code in ("worker_died", "worker_protocol") and error.executed == "maybe"
        is_alone_and_well(c)


def test_fault_39_a_reply_after_the_timeout_is_dropped_and_its_worker_goes_on(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log", cancel_grace="20s")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        for i in range(5):
            error = c.fail_execute("run", f"late{i}", "late", 500, timeout_ms=50)
            assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
            # it waits until the late reply has come, which must not be taken for its own
            assert c.execute("run", f"next{i}", "echo", 0, meta=True)["value"] == f"next{i}"
        assert [w["worker"] for w in workers(c) if w["state"] != "dead"] == [worker]
        assert c.is_silent(0.02)


def test_fault_39_a_late_reply_of_a_worker_that_is_being_stopped_is_dropped(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log", cancel_grace="50ms")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        number = c.start_execute("run", "stubborn", "wall", 0, timeout_ms=300)
        assert c.wait_error(number).code == "deadline_exceeded"
        assert wait_dead(c, worker)["why"] == "deadline"
        is_alone_and_well(c)
        assert c.order.count(number) == 1


@pytest.mark.parametrize("n", [0, 3], ids=["all", "calls"])
def test_fault_42_a_worker_that_closes_its_files_is_killed_and_replaced(
    start_daemon: StartDaemon, tmp_path: Path, n: int
) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        began = now()
        error = c.fail_execute("run", "closes", "close", n)
        assert now() - began < 5.0
        assert error.code in ("worker_died", "worker_protocol") and error.executed == "maybe", error
        wait_dead(c, worker)
        is_alone_and_well(c)


def test_fault_42_a_python_handler_that_closes_fds_3_and_up_is_killed_and_replaced(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    app = Path(__file__).parents[1] / "chaos"
    settings = {"path": [str(app)], "environment": [f"CHAOS_LOG={tmp_path / 'log'}"]}
    daemon = start_daemon({"default": {**pool("chaos_app", 1), **settings}})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        error = c.fail_execute("run", "closes", "close", 0)
        assert error.code in ("worker_died", "worker_protocol") and error.executed == "maybe", error
        wait_dead(c, worker)
        is_alone_and_well(c)


def test_fault_40_10_mib_of_stderr_from_a_stub_are_drained(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")}, log_level="warning", start_concurrency=8)
    with daemon.client() as c:
        assert c.execute("run", "loud", "noise", 10 * 1024) == "loud"


def test_a_stub_that_is_interrupted_says_so_and_lives(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c:
        number = c.start_execute("run", "slept", "sleep", 60_000)
        eventually(lambda: "S" in [e.letter for e in by_tag(read_events(tmp_path / "log")).get("slept", [])], "it runs")
        assert c.call("cancel", id=number) is True
        with pytest.raises(CallError, match="cancelled"):
            c.wait(number).value()
        is_alone_and_well(c)
    assert [e.letter for e in by_tag(read_events(tmp_path / "log"))["slept"]] == ["S", "I"]


def test_fault_18_a_signal_at_the_end_of_the_input_does_not_make_it_the_end_of_the_connection(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """The daemon asks poll() which of the two it is, and poll() can say EINTR: each worker that dies sends a SIGCHLD."""
    daemon = start_daemon({"default": stub(tmp_path / "log")})
    with daemon.client() as c, failing(daemon, "poll", "EINTR", 1):
        numbers = [c.start_execute("run", f"t{i}", "sleep", 10) for i in range(3)]
        c.shutdown_write()
        assert [c.wait(number).value() for number in numbers] == ["t0", "t1", "t2"]
        c.wait_closed()
