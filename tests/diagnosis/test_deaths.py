"""A worker that ends while it runs a call, or while it runs none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.diagnosis.memory_group import memory_group
from tests.diagnosis.telling import TIME, WORKER, check, pool, wait_begun
from tests.support.client import CallError, Client
from tests.support.daemon import Daemon
from tests.support.scenes import wait_dead, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
KEYS = "waited_ms run_ms reason exit exit_code signal core_dumped core max_rss_kib output"


def check_death(error: CallError, how: str, doing: str, last_words: str = "", keys: str = "") -> None:
    tail = f"; its last words: {last_words}" if last_words else ""
    check(error, "worker_died", "maybe", rf"{WORKER} {how} while it ran {doing} for {TIME}{tail}", f"{KEYS} {keys}")
    assert error.cause["max_rss_kib"] > 5000


@pytest.mark.parametrize("status", [0, 3])
def test_exit_behind_pythons_back(start_daemon: StartDaemon, status: int) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        error = c.fail_execute("vanish", status)
        check_death(error, f"exited with status {status}", "vanish", "about to go")
        assert (error.cause["exit_code"], error.cause["signal"]) == (status, 0)
        assert error.cause["output"] == ["about to go"]
        assert c.execute("price", 1) == 100, "another worker serves"


def kill_running(c: Client, number: int) -> CallError:
    call = c.start_execute("slow", 60)
    wait_begun(c)
    os.kill(workers(c, "busy")[0]["pid"], number)
    return c.wait_error(call)


def test_sigkill_by_somebody_else(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        error = kill_running(c, signal.SIGKILL)
        check_death(error, r"was killed by signal 9 \(SIGKILL\) from outside of pypoold", "slow")
        assert (error.cause["exit_code"], error.cause["signal"], error.cause["output"]) == (-1, 9, ["slow begins"])


@pytest.mark.parametrize("handler, signo, name, place", [
    ("segfault", signal.SIGSEGV, "SIGSEGV", r"shop\.py line \d+ in segfault"),
    ("abort", signal.SIGABRT, "SIGABRT", r"shop\.py line \d+ in abort"),
])
def test_fatal_signals_come_with_their_stack(
    start_daemon: StartDaemon, handler: str, signo: int, name: str, place: str
) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        error = c.fail_execute(handler)
        check(
            error, "worker_died", "maybe",
            rf"{WORKER} was killed by signal {int(signo)} \({name}\) while it ran {handler} for {TIME}, {place}",
            f"{KEYS} stack",
        )
        assert error.cause["signal"] == signo and f" in {handler}\n" in error.cause["stack"]
        assert "pypool_worker" not in error.cause["stack"] and "Thread" not in error.cause["stack"]


@pytest.fixture
def small_memory() -> Iterator[list[str]]:
    """The words before a command that start it where there is little memory."""
    with memory_group(100 << 20) as prefix:
        if prefix is None:
            pytest.skip("no cgroup with a memory limit can be made here")
        yield prefix


def test_oom_kill(small_memory: list[str], start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop")}, prefix=small_memory).client() as c:
        error = c.fail_execute("hoard", 400)
        check_death(
            error, r"was killed by the kernel for want of memory \(OOM killer, SIGKILL; its peak was \d+ MiB\)", "hoard"
        )
        assert error.cause["reason"] == "oom" and error.cause["max_rss_kib"] > 30_000
        assert c.execute("price", 1) == 100


def test_a_worker_that_dies_while_idle_is_noticed_by_no_caller(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        idle = workers(c, "idle")[0]
        os.kill(idle["pid"], signal.SIGKILL)
        assert c.execute("price", 1) == 100
        dead = wait_dead(c, idle["worker"])
        assert (dead["why"], dead["exit"]) == ("crashed", "was killed by signal 9 (SIGKILL) from outside of pypoold")
        told = c.call("why", worker=idle["worker"])
        assert (told["history"][-1]["to"], told["history"][-1]["why"]) == ("dead", "crashed")


def test_crash_loop_at_init(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("chatty", breaker_failures=3, breaker_reset="20s")}).client() as c:

        def open_error() -> CallError | None:
            error = c.fail_execute("anything")
            return error if error.code == "circuit_open" else None

        error = eventually(open_error, "the breaker opens")
        assert error is not None
        check(
            error, "circuit_open", "never",
            r"pool default takes no calls: 3 workers failed in a row since \d\d:\d\d:\d\d, last: ConnectionError: licence "
            rf"server refused, chatty\.py line 6; next try in {TIME}",
            "breaker failures since_ms last init",
        )
        assert 0 < error.fields["retry_after_ms"] <= 20_000
        assert [each["what"] for each in error.cause["last"]] == ["ConnectionError: licence server refused, chatty.py line 6"] * 3
        assert "connecting to the licence server" in error.cause["init"]["output"]


def test_crash_loop_in_calls(start_daemon: StartDaemon) -> None:
    settings = pool("shop", breaker_failures=2, breaker_reset="20s", poison_kills=0)
    with start_daemon({"default": settings}).client() as c:
        for status in (3, 4):
            assert c.fail_execute("vanish", status).code == "worker_died"
        check(
            c.fail_execute("price", 1), "circuit_open", "never",
            r"pool default takes no calls: 2 workers failed in a row since \d\d:\d\d:\d\d, last: "
            rf"{WORKER} exited with status 4; its last call was vanish; next try in {TIME}",
            "breaker failures since_ms last",
        )


def test_poison_call(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop", poison_kills=2)}).client() as c:
        for _ in range(2):
            assert c.fail_execute("vanish", 3).code == "worker_died"
        error = c.fail_execute("vanish", 3)
        check(
            error, "poisoned", "never",
            rf"vanish with these arguments has killed 2 workers, last: {WORKER} exited with status 3 at \d\d:\d\d:\d\d; "
            rf"refused for {TIME}",
            "kills last",
        )
        assert error.fields["retry_after_ms"] > 0
        assert c.fail_execute("vanish", 4).code == "worker_died", "other arguments are not refused"
        assert c.execute("price", 1) == 100
