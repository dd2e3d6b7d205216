"""The failures that this project exists to end, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import procfs
from tests.support.client import CallError
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import (
    assert_prompt,
    early_client,
    lines,
    now,
    pool_of,
    wait_queued,
    wait_running,
    wait_workers,
    workers,
)
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def slow_pool(n: int, seconds: float, **settings: Any) -> dict[str, Any]:
    return pool("slow_import", n, environment=[f"PYPOOL_TEST_SECONDS={seconds}"], **settings)


# ---- invalid checkout type


def test_an_invalid_checkout_type_names_the_accepted_ones_and_costs_no_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    wrong: list[dict[str, Any]] = [{"type": "exclusive"}, {"type": ""}, {"type": None}, {"type": 7}, {}]
    with daemon.client() as c:
        before = workers(c)[0]
        for params in wrong:
            error = c.fail("checkout", **params)
            assert (error.code, error.executed) == ("invalid_checkout_type", "never"), params
            assert '"anonymous"' in error.message and '"session"' in error.message, params
        after = workers(c)[0]
        assert (after["worker"], after["pid"], after["state"]) == (before["worker"], before["pid"], "idle")
        counters = pool_of(c)
        assert (counters["accepted"], counters["leases"], counters["died"]) == (0, 0, 0)
        assert c.execute("pid") == before["pid"]


def test_an_invalid_checkout_type_is_told_at_once_while_every_worker_is_busy(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        busy = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        asked = now()
        assert c.fail("checkout", type="exclusive").code == "invalid_checkout_type"
        assert now() - asked < 0.25 * SLOW, "it waited for a worker"
        assert c.call("cancel", id=busy) is True
        assert c.wait_error(busy).code == "cancelled"


# ---- a worker that prints on both outputs and dies while it imports


def assert_tells_why(error: CallError) -> None:
    assert (error.code, error.executed) == ("init_failed", "never")
    assert "RuntimeError: licence server refused, dies_noisy.py line 6" in error.message
    assert error.fields["phase"] == "imports"
    assert_cause_tells_why(error.cause)


def assert_cause_tells_why(cause: dict[str, Any]) -> None:
    assert "in connect\n" in cause["traceback"] and "RuntimeError: licence server refused" in cause["traceback"]
    assert "about to connect" in cause["output"], "what it had printed on stdout"
    assert "warning: no cache" in cause["output"], "what it had printed on stderr"
    assert any("RuntimeError: licence server refused" in line for line in cause["output"])


def test_a_worker_that_dies_noisily_while_importing_is_explained_to_execute_status_and_logs_at_once(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("dies_noisy")})
    with daemon.client() as c:
        asked = now()
        assert_tells_why(c.fail_execute("anything"))
        assert now() - asked < 0.25 * SLOW, "a caller of a pool that is down had to wait"

        status = c.call("status")["pools"][0]
        assert status["state"] == "down"
        assert "licence server refused" in status["last_failure"]["message"]
        assert_cause_tells_why(status["last_failure"]["cause"])

        printed = {(line["source"], line["text"]) for line in c.call("logs")}
        assert ("stdout", "about to connect") in printed
        assert ("stderr", "warning: no cache") in printed
        assert ("stderr", "RuntimeError: licence server refused") in printed
    assert 'text="about to connect"' in daemon.log()


def test_a_caller_who_waits_while_the_worker_dies_importing_is_told_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("dies_noisy", 1)}, ready=False)
    with early_client(daemon) as c:
        asked = now()
        error = c.fail_execute("anything", timeout_ms=20000)
        assert now() - asked < 5 * SLOW
        assert_tells_why(error)
    daemon.wait_ready()


@pytest.mark.parametrize("app, words", [
    ("import_error", "ModuleNotFoundError: No module named 'a_module_that_does_not_exist'"),
    ("syntax_error", "SyntaxError: "),
    ("exits_in_import", "SystemExit: 3"),
    ("no_such_app", "ModuleNotFoundError: No module named 'no_such_app'; searched in "),
])
def test_an_app_that_cannot_be_imported_fails_its_callers_with_the_reason(
    start_daemon: StartDaemon, app: str, words: str
) -> None:
    daemon = start_daemon({"default": pool(app, 1)})
    with daemon.client() as c:
        error = c.fail_execute("anything")
        assert (error.code, error.executed) == ("init_failed", "never")
        assert words in error.message
        assert words.partition(":")[0] in error.cause["traceback"]


# ---- an init that hangs


def test_an_init_that_hangs_fails_after_init_timeout_with_the_stack_of_the_import(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("hangs_in_import", 1, init_timeout="2s")}, ready=False)
    started = now()
    with early_client(daemon) as c:
        process = procfs.process(wait_workers(c, "initializing", 1)[0]["pid"])
        assert process is not None
        error = c.fail_execute("anything", timeout_ms=20000)
        took = now() - started
        assert (error.code, error.executed) == ("init_failed", "never")
        assert 1.8 < took < 2.0 + 1.5 * SLOW, took
        assert "init was not finished in 2.0 s, in phase imports of hangs_in_import" in error.message
        assert "hangs_in_import.py line 6 in wait_for_licence" in error.message
        assert "in wait_for_licence" in error.cause["stack"] and "in <module>" in error.cause["stack"]
        assert [phase["phase"] for phase in error.cause["init"]] == ["exec", "interpreter", "library", "imports"]
        assert "in wait_for_licence" in c.call("status")["pools"][0]["last_failure"]["cause"]["stack"]
    gone = process
    eventually(lambda: not gone.is_alive(), "the worker that hung is gone", 3 * SLOW)
    daemon.wait_ready()


# ---- workers that need long to import


@pytest.mark.parametrize("seconds", [1.5, 5.0])
def test_a_third_caller_of_a_pool_of_two_does_not_time_out_because_of_start_up(
    start_daemon: StartDaemon, seconds: float
) -> None:
    daemon = start_daemon({"default": slow_pool(2, seconds)}, ready=False)
    with early_client(daemon) as first, daemon.client() as second, daemon.client() as third:
        asked = now()
        numbers = [(c, c.start_execute("sleep", 0.2)) for c in (first, second, third)]
        wait_queued(first, 3)
        assert [c.wait(number).value() for c, number in numbers] == [0.2, 0.2, 0.2]
        assert now() - asked < seconds + 0.4 + 1.5 * SLOW
        assert pool_of(first)["spawned"] == 2, "nothing was killed and started again"


def test_eight_workers_that_sleep_in_their_import_are_ready_in_little_more_than_the_time_of_one(
    start_daemon: StartDaemon,
) -> None:
    seconds, started = 2.0, now()
    daemon = start_daemon({"default": slow_pool(8, seconds)}, start_concurrency=2, ready=False)
    with early_client(daemon) as c:
        eventually(lambda: workers(c, "idle"), "the first is ready", 20 * SLOW)
        of_one = now() - started
        wait_workers(c, "idle", 8, timeout=20)
        of_eight = now() - started
    daemon.wait_ready()
    print(f"eight workers of {seconds} s each: the first ready after {of_one:.2f} s, all after {of_eight:.2f} s")
    # two at a time, each until it is ready, would be 6 s more; with the gate's 250 ms each it is under 1 s
    assert seconds < of_one <= of_eight < of_one + 2.0 * SLOW


# ---- cancel and disconnect during init


def test_a_cancel_during_init_leaves_no_stray_message_and_loses_no_worker(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": slow_pool(2, 2.0)}, ready=False)
    ledger = tmp_path / "ledger"
    with early_client(daemon) as c:
        number = c.start_execute("append_line", str(ledger), "cancelled")
        checkout = c.start("checkout", type="anonymous")
        for each in (number, checkout):
            assert c.call("cancel", id=each) is True
            error = c.wait_error(each)
            assert (error.code, error.executed) == ("cancelled", "never")
        assert not workers(c, "idle", "busy"), "the test was too slow: they have started"
        daemon.wait_ready()
        wait_workers(c, "idle", 2)
        assert c.is_silent(0.05)
        assert c.order.count(number) == 1 and c.order.count(checkout) == 1 and not c.notifications
        calls = [c.start_execute("sleep", 1.0), c.start_execute("sleep", 1.0)]
        wait_running(c, "sleep", 2)
        assert [c.wait(n).value() for n in calls] == [1.0, 1.0]
        assert lines(ledger) == [] and pool_of(c)["spawned"] == 2


def test_a_disconnect_during_init_leaves_no_stray_message_and_loses_no_worker(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": slow_pool(2, 2.0)}, ready=False)
    ledger = tmp_path / "ledger"
    with early_client(daemon) as watcher:
        with daemon.client() as goes:
            goes.start_execute("append_line", str(ledger), "disconnected")
            goes.start("checkout", type="anonymous")
            wait_queued(watcher, 2)
        eventually(lambda: not watcher.call("queue"), "nobody waits any more", 0.5 * SLOW)
        assert not workers(watcher, "idle", "busy"), "the test was too slow: they have started"
        daemon.wait_ready()
        idle = wait_workers(watcher, "idle", 2)
        assert [w["calls"] for w in idle] == [0, 0]
        calls = [watcher.start_execute("sleep", 1.0), watcher.start_execute("sleep", 1.0)]
        wait_running(watcher, "sleep", 2)
        assert [watcher.wait(n).value() for n in calls] == [1.0, 1.0]
        assert lines(ledger) == [] and pool_of(watcher)["spawned"] == 2
        assert watcher.call("status")["calls"]["abandoned"] == 2


# ---- two pools in one daemon, two daemons on one machine


def test_one_pools_crash_loop_does_not_disturb_the_calls_of_another(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"good": pool("nasty", 2), "bad": pool("dies_noisy", 2), "worse": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as victim:
        wait_workers(c, "idle", 2, pool="good")
        pids, took = {w["pid"] for w in workers(c, pool="good")}, []
        deaths = pool_of(c, "bad")["died"]
        for i in range(60):
            if i % 10 == 0:
                victim.start_execute("os_exit", 3, pool="worse")
                assert victim.fail_execute("anything", pool="bad").fields["pool"] == "bad"
            asked = now()
            assert c.execute("sleep", 0.02, pool="good") == 0.02
            took.append(now() - asked - 0.02)
        assert pool_of(c, "bad")["died"] > deaths and pool_of(c, "worse")["died"] > 0, "nothing went wrong meanwhile"
        assert {w["pid"] for w in workers(c, pool="good")} == pids
        assert pool_of(c, "good")["completed"] == 60
    assert_prompt("a call beside two pools in crash loops", took, median=0.02, worst=0.5)


def test_a_pool_whose_calls_all_wait_does_not_hold_up_another(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"full": pool("nasty", 1), "free": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        waiting = [other.start_execute("sleep", 0.1, pool="full") for _ in range(20)]
        wait_running(c, "sleep")
        asked = now()
        for i in range(10):
            assert c.execute("echo", i, pool="free") == i
        assert now() - asked < 0.3 * SLOW
        assert pool_of(c, "full")["queued"] > 0, "the test was too slow: the other pool is done"
        for number in waiting:
            assert other.wait(number).value() == 0.1


def test_two_daemons_on_one_machine_do_not_interfere(start_daemon: StartDaemon) -> None:
    one, two = start_daemon({"default": pool("nasty", 2)}), start_daemon({"default": pool("nasty", 2)})
    with one.client() as a, two.client() as b:
        of_one, of_two = {w["pid"] for w in workers(a)}, {w["pid"] for w in workers(b)}
        assert not of_one & of_two
        running = b.start_execute("sleep", 1.5)
        wait_running(b, "sleep")
        assert a.fail_execute("crash", 9).code == "worker_died"
        assert a.fail("checkin", lease=b.call("checkout", type="anonymous")["lease"]).code == "lease_not_found"
        one.kill()
        assert b.wait(running).value() == 1.5
        assert {w["pid"] for w in workers(b)} == of_two
        assert pool_of(b)["died"] == 0
