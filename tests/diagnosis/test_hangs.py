"""A handler that does not come back: the caller is told at its deadline where it was, and the worker is made to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.diagnosis.telling import TIME, WORKER, check, check_init, pool
from tests.support.daemon import Daemon
from tests.support.scenes import wait_queued, wait_running

StartDaemon = Callable[..., Daemon]
KEYS = "waited_ms run_ms activity stack stack_complete output"


@pytest.mark.parametrize("handler, place", [
    ("loop", r"shop\.py line \d+ in loop, running Python"),
    ("match", r"shop\.py line \d+ in match, in C code that holds the GIL"),
    ("deadlock", r"shop\.py line \d+ in deadlock, asleep in futex"),
    ("read_socket", r"shop\.py line \d+ in read_socket, asleep in recvfrom"),
    ("slow", r"shop\.py line \d+ in slow, asleep in \w*nanosleep"),
])
def test_where_it_hangs(start_daemon: StartDaemon, handler: str, place: str) -> None:
    with start_daemon({"default": pool("shop", cancel_grace="300ms")}).client() as c:
        args = [60] if handler == "slow" else []
        error = c.fail_execute(handler, *args, timeout_ms=400, queue_timeout_ms=10_000)
        check(
            error, "deadline_exceeded", "maybe",
            rf"deadline 400 ms exceeded in {handler}: {place}; it is being interrupted, and {WORKER} killed if it goes on for "
            "300 ms",
            KEYS,
        )
        assert f" in {handler}\n" in error.cause["stack"] and error.cause["stack_complete"]
        assert "pypool_worker" not in error.cause["stack"]
        assert c.execute("price", 1) == 100


def test_a_stopped_worker(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop", cancel_grace="300ms")}).client() as c:
        error = c.fail_execute("stop", timeout_ms=900)
        check(
            error, "deadline_exceeded", "maybe",
            rf"deadline 900 ms exceeded in stop: it did not show its stack, stopped \(state T\); it is being interrupted, and {WORKER} killed if it "
            "goes on for 300 ms",
            KEYS,
        )
        assert c.execute("price", 1) == 100, "it was killed and replaced"


@pytest.mark.parametrize("app, place", [
    ("sleepy", r"sleepy\.py line 6 in wait_for_licence, asleep in \w*nanosleep"),
    ("deadlock", r"deadlock\.py line 11, asleep in futex"),
])
def test_an_import_that_hangs(start_daemon: StartDaemon, app: str, place: str) -> None:
    with start_daemon({"default": pool(app, init_timeout="1500ms")}).client() as c:
        cause = check_init(
            c.fail_execute("anything"), rf"init was not finished in 1.5 s, in phase imports of {app}: {place}",
            "activity stack signal core max_rss_kib",
        )
        assert cause["init"][-1]["module"] == app and cause["init"][-1]["ms"] > 100
        assert f'{app}.py", line' in cause["stack"]


def test_all_workers_busy(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        runs = c.start_execute("slow", 60)
        wait_running(c, "slow")

        def refuse(place: str, ahead: int) -> None:
            error = c.fail_execute("price", 1, queue_timeout_ms=200)
            check(
                error, "queue_timeout", "never",
                rf"no free worker for price in {TIME}: 1 of 1 busy \(pid \d+: slow for {TIME} at shop\.py line \d+ in slow\); {place}",
                "waited_ms ahead workers",
            )
            assert error.cause["ahead"] == ahead

        refuse("you were first in the queue", 0)
        waits = c.start_execute("add", 1, 2, timeout_ms=30_000)
        wait_queued(c, 1)
        refuse("1 was ahead of you in the queue", 1)
        for call in (waits, runs):
            c.call("cancel", id=call)
            assert c.wait_error(call).code == "cancelled"
