"""How many workers there are: growth, shrinking, recycling, the circuit breaker and pings, with real processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.history import by_tag, read_events
from tests.support.client import Client
from tests.support.daemon import BUILD, SLOW, Daemon, pool
from tests.support.scenes import now, pool_of, wait_dead, wait_running, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]

STUB = BUILD / "tests" / "stub_worker"


def outcomes(c: Client, calls: list[int]) -> dict[str, int]:
    """How many of the calls ended how."""
    count: dict[str, int] = {}
    for call in calls:
        answer = c.wait(call)
        name = answer.error["code"] if answer.error else "ok"
        count[name] = count.get(name, 0) + 1
    return count


def test_a_pool_grows_for_a_burst_and_shrinks_again(start_daemon: StartDaemon, tmp_path: Path) -> None:
    end = tmp_path / "end"
    settings = pool("nasty", 1, max_workers=6, idle_timeout="500ms")
    daemon = start_daemon({"default": settings})
    with daemon.client() as c:
        calls = [c.start_execute("hold", str(end)) for _ in range(12)]
        wait_running(c, "hold", 6)
        end.touch()
        assert outcomes(c, calls) == {"ok": 12}
        wait_workers(c, "idle", 1)
        gone = wait_workers(c, "dead", 5)
        assert {w["why"] for w in gone} == {"surplus"}
        assert {w["exit"] for w in gone} == {"exited with status 0"}


def test_a_pool_with_minimum_0_serves_its_first_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 0, max_workers=2, idle_timeout="200ms")})
    with daemon.client() as c:
        assert workers(c) == [] and pool_of(c)["state"] == "serving"
        assert c.execute("echo", "cold") == "cold"
        eventually(lambda: not workers(c), "the idle worker has left", 10.0 * SLOW)


@pytest.mark.parametrize("replace", ["before", "after"])
def test_fault_47_10_000_calls_over_500_recycles_and_no_error(start_daemon: StartDaemon, tmp_path: Path, replace: str) -> None:
    """Half of both for each way of replacing; workers in C, because 500 interpreters take half a minute to start."""
    recycled = pool("stub", 4, max_requests=10, replace=replace, max_queue=0)
    recycled.update({"python": str(STUB), "environment": [f"STUB_LOG={tmp_path / 'log'}"]})
    daemon = start_daemon({"default": recycled}, log_level="warning", start_concurrency=4)
    with daemon.client() as c:
        done: dict[str, int] = {}
        n = 0
        while n < 5000 or pool_of(c)["spawned"] < 254:
            for name, more in outcomes(c, [c.start_execute("run", f"t{n + i}", "echo", 0) for i in range(16)]).items():
                done[name] = done.get(name, 0) + more
            n += 16
        assert done == {"ok": n}
        eventually(lambda: len(workers(c, "idle")) == 4 and len(workers(c)) == 4, "the pool is at rest", 20.0 * SLOW)
        assert {w["why"] for w in workers(c, "dead")} == {"max_requests"}
        assert (pool_of(c)["failed"], pool_of(c)["breaker"]["opened"]) == (0, 0)
    assert len(by_tag(read_events(tmp_path / "log"))) == n


def test_fault_46_a_worker_over_max_rss_is_recycled_after_its_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("grows", 1, max_rss="120M")})
    with daemon.client() as c:
        (first,) = workers(c)
        assert c.execute("keep", 1 << 20) == 1
        assert [w["worker"] for w in workers(c)] == [first["worker"]]
        assert c.execute("keep", 160 << 20) == 2  # the call itself is answered
        assert wait_dead(c, first["worker"])["why"] == "rss_limit"
        assert c.execute("keep", 1) == 1


def test_the_breaker_opens_after_crashes_and_closes_when_a_worker_starts(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, breaker_failures=3, breaker_reset="2s", poison_kills=0)})
    with daemon.client() as c:
        for _ in range(3):
            assert c.fail_execute("crash").code == "worker_died"
        begun = now()
        error = c.fail_execute("echo", 1)
        assert now() - begun < 0.5 * SLOW
        assert (error.code, error.executed) == ("circuit_open", "never")
        assert re.fullmatch(
            r"pool default takes no calls: 3 workers failed in a row since \d\d:\d\d:\d\d, last: worker \d+ \(pid \d+\) was killed "
            r"by signal 11 \(SIGSEGV\)(, core dumped)?; its last call was crash; (next try in .+|the next try is on its way)",
            error.message,
        ), error.message
        assert 0 < error.fields["retry_after_ms"] <= 2001
        last = [x["worker"] for x in error.cause["last"]]
        assert len(last) == 3 and last == sorted(last, reverse=True)
        assert pool_of(c)["state"] == "open"
        eventually(lambda: bool(pool_of(c)["state"] == "serving"), "the breaker is closed again", 20.0 * SLOW)
        assert c.execute("echo", 2) == 2


def test_the_breaker_opens_for_a_crash_loop_at_init_with_the_traceback(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("import_error", 1, breaker_failures=3, breaker_reset="30s")})
    with daemon.client() as c:
        eventually(lambda: bool(pool_of(c)["state"] == "open"), "the breaker is open", 20.0 * SLOW)
        error = c.fail_execute("echo")
        assert (error.code, error.executed) == ("circuit_open", "never")
        assert "Traceback" in error.cause["init"]["traceback"]
        assert "import_error.py line" in error.message
        assert len([w for w in workers(c, "dead")]) == 3


def test_fault_36_an_idle_worker_that_is_stopped_is_replaced(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, ping_interval="200ms")})
    with daemon.client() as c:
        (victim,) = workers(c)
        os.kill(victim["pid"], signal.SIGSTOP)
        eventually(lambda: bool(pool_of(c)["state"] == "degraded"), "the miss is shown", 10.0 * SLOW)
        assert wait_dead(c, victim["worker"])["why"] == "lost"
        assert c.execute("echo", 1) == 1


def test_a_call_that_holds_the_gil_for_long_is_not_ended_by_pings(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, ping_interval="100ms")})
    with daemon.client() as c:
        call = c.start_execute("busy_c", 1.5)
        wait_running(c, "busy_c")
        eventually(lambda: bool(workers(c)[0]["misses"] == 1), "the miss is shown", 10.0 * SLOW)
        assert c.wait(call).error is None
        eventually(lambda: bool(workers(c)[0]["misses"] == 0), "the miss is forgotten", 10.0 * SLOW)
        assert pool_of(c)["spawned"] == 1
