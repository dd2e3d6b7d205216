"""why: a call, a worker and a pool explained, for machines and by pypoolctl for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.daemon import Daemon, pool
from tests.support.scenes import wait_queued, wait_running, wait_workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def calls_of(c: Client, state: str) -> list[dict[str, Any]]:
    return [r for r in c.call("queue") if r["state"] == state]


def test_a_waiting_call_is_told_its_place_and_who_has_the_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    with daemon.client() as c, daemon.client() as other:
        c.execute("sleep", 0.01)
        running = c.start_execute("sleep", 30, timeout_ms=20000)
        wait_running(c, "sleep")
        waiting = [c.start_execute("sleep", 0.01, timeout_ms=30000) for _ in range(2)]
        wait_queued(c, 2)
        waiting_too = other.start_execute("sleep", 0.01, timeout_ms=30000)
        wait_queued(c, 3)
        last = max(r["call"] for r in calls_of(c, "queued"))
        told = c.call("why", call=last)
        assert (told["kind"], told["state"], told["target"]) == ("call", "queued", "sleep")
        assert (told["ahead"], told["ahead_own"]) == (1, 0), "callers take turns"
        assert 0 < told["deadline_ms"] <= 30000 and 0 < told["queue_ms"] <= 30000
        (holder,) = told["workers"]
        (run,) = calls_of(c, "running")
        assert (holder["state"], holder["target"], holder["call"]) == ("busy", "sleep", run["call"])
        assert 0 < holder["deadline_ms"] <= 20000
        assert told["run_mean_us"] >= 10000
        assert told["start_ms"] is not None and told["start_ms"] <= 20000 + 2 * told["run_mean_us"] // 1000
        shown = daemon.ctl("why", str(last))
        assert shown.returncode == 0, shown.stderr
        assert "waits in pool default for" in shown.stdout and "1 call comes first" in shown.stdout
        assert "in about" in shown.stdout and str(holder["pid"]) in shown.stdout
        c.call("cancel", id=running)
        c.wait(running)
        for number in waiting:
            c.wait(number).value()
        other.wait(waiting_too).value()


def test_nothing_is_guessed_about_the_start_before_any_call_has_ended(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    with daemon.client() as c:
        running, waiting = c.start_execute("sleep", 30), c.start_execute("sleep", 0)
        wait_queued(c, 1)
        call = calls_of(c, "queued")[0]["call"]
        told = c.call("why", call=call)
        assert (told["start_ms"], told["run_mean_us"], told["ahead"]) == (None, None, 0)
        assert "it is the next" in daemon.ctl("why", "call", str(call)).stdout
        c.call("cancel", id=running)
        c.wait(running)
        c.wait(waiting).value()


def test_a_call_under_a_lease_waits_for_its_worker_alone(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 2)})
    with daemon.client() as c:
        lease = c.call("checkout", type="anonymous")
        running = c.start_execute("sleep", 30, lease=lease["lease"])
        waiting = c.start_execute("sleep", 0, lease=lease["lease"])
        queued = eventually(lambda: calls_of(c, "queued"), "one waits", 10)
        told = c.call("why", call=queued[0]["call"])
        assert told["lease"] == lease["lease"]
        assert [w["worker"] for w in told["workers"]] == [lease["worker"]]
        c.call("cancel", id=running)
        c.wait(running)
        c.wait(waiting).value()


def test_a_running_call_is_told_where_it_runs_and_one_that_has_ended_is_not_known_any_more(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    with daemon.client() as c:
        number = c.start_execute("sleep", 30, timeout_ms=20000)
        wait_running(c, "sleep")
        (run,) = calls_of(c, "running")
        told = c.call("why", call=run["call"])
        (worker,) = c.call("workers")
        assert (told["worker"], told["pid"], told["stack_asked"]) == (worker["worker"], worker["pid"], False)
        assert 0 < told["deadline_ms"] <= 20000 and told["run_ms"] <= 20000
        shown = daemon.ctl("why", str(run["call"]))
        assert shown.returncode == 0 and f"runs on worker {worker['worker']} (pid {worker['pid']})" in shown.stdout
        c.call("cancel", id=number)
        c.wait(number)
        assert c.call("why", call=run["call"]) == {"kind": "call", "call": run["call"], "state": "finished"}
        gone = daemon.ctl("why", str(run["call"]))
        assert gone.returncode == 1 and "is not known any more: it has ended" in gone.stderr
        assert json.loads(daemon.ctl("--json", "why", str(run["call"])).stdout)["state"] == "finished"
        assert c.call("why", call=10**9)["state"] == "unknown"
        assert "there has been no call 1000000000 yet" in daemon.ctl("why", "1000000000").stderr


def test_a_workers_life_is_told_with_its_reasons_its_exit_and_its_last_words(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        (worker,) = c.call("workers")
        assert c.fail_execute("crash").code == "worker_died"
        told = c.call("why", worker=worker["worker"])
        assert (told["kind"], told["state"], told["why"]) == ("worker", "dead", "crashed")
        moves = [(m["from"], m["to"], m["why"]) for m in told["history"]]
        assert moves == [
            ("starting", "initializing", None),
            ("initializing", "idle", None),
            ("idle", "busy", None),
            ("busy", "dead", "crashed"),
        ]
        assert [m["ms"] for m in told["history"]] == sorted((m["ms"] for m in told["history"]), reverse=True)
        assert "SIGSEGV" in told["exit"]
        assert any("Segmentation fault" in line for line in told["output"])
        assert [p["phase"] for p in told["init"]][:2] == ["exec", "interpreter"]
        shown = daemon.ctl("why", f"default/{worker['worker']}").stdout
        assert "busy -> dead  (crashed)" in shown and "SIGSEGV" in shown
        assert daemon.ctl("why", "worker", str(worker["worker"])).stdout.splitlines()[1:] != []
        assert c.call("why", worker=10**6) == {"kind": "worker", "worker": 10**6, "state": "unknown"}


def test_a_pool_that_cannot_start_tells_its_failure_and_an_open_breaker_its_causes(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("import_error", 1, breaker_failures=2)})
    with daemon.client() as c:
        eventually(lambda: bool(c.call("why", pool="default")["state"] == "open"), "the breaker is open", 20)
        told = c.call("why", pool="default")
        assert told["kind"] == "pool" and told["last_failure"]["phase"] == "imports"
        assert "a_module_that_does_not_exist" in told["last_failure"]["message"]
        breaker = told["breaker"]
        assert (breaker["state"], breaker["failures"], breaker["threshold"]) == ("open", 2, 2)
        assert breaker["retry_after_ms"] > 0
        assert len(breaker["last"]) == 2 and "a_module_that_does_not_exist" in breaker["last"][0]["what"]
        shown = daemon.ctl("why", "default")
        assert shown.returncode == 0
        assert "pool default is open: it failed too often and takes no calls" in shown.stdout
        assert "tries again in" in shown.stdout and "ModuleNotFoundError" in shown.stdout


def test_what_is_not_one_of_three_is_refused_with_what_is_accepted(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    with daemon.client() as c:
        several: list[dict[str, Any]] = [{}, {"call": 1, "worker": 1}, {"call": 1, "worker": 1, "pool": "default"}]
        for params in several:
            error = c.fail("why", **params)
            assert error.code == "bad_request" and "why needs call" in error.message and "pool" in error.message
        error = c.fail("why", pool="other")
        assert error.code == "unknown_pool" and "there are: default" in error.message
    assert daemon.ctl("why").returncode == 2
    assert daemon.ctl("why", "call", "x").returncode == 2
    assert daemon.ctl("why", "call").returncode == 2
    assert daemon.ctl("why", "lease", "1").returncode == 2
    assert daemon.ctl("why", "other").returncode == 1


def test_a_call_that_is_held_back_is_told_so_with_and_without_a_lease(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("again", 3, poison_kills=2)})
    ledger = str(tmp_path / "ledger")
    with daemon.client() as c:
        lease = c.call("checkout", type="anonymous")["lease"]
        assert c.fail_execute("dies_then_hangs", ledger).code == "worker_died"
        wait_workers(c, "idle", 2)
        runs = c.start_execute("dies_then_hangs", ledger, timeout_ms=30000)
        wait_running(c, "dies_then_hangs")
        ways: list[dict[str, Any]] = [{}, {"lease": lease}]
        held = [c.start_execute("dies_then_hangs", ledger, timeout_ms=30000, queue_timeout_ms=3000, **way) for way in ways]
        wait_queued(c, 2)
        for call in calls_of(c, "queued"):
            told = c.call("why", call=call["call"])
            assert (told["state"], told["held"], told["ahead"], told["start_ms"]) == ("queued", 1, 0, None)
            shown = daemon.ctl("why", "call", str(call["call"])).stdout
            assert "held back: with these arguments it has killed 1 worker" in shown
        for number in held:
            error = c.wait_error(number)
            assert (error.code, error.executed) == ("queue_timeout", "never")
            assert "dies_then_hangs was held back for " in error.message
            assert ": with these arguments it has killed 1 worker, last: worker " in error.message
            assert error.cause["kills"] == 1 and "SIGKILL" in error.cause["last"][0]["what"]
        assert c.call("cancel", id=runs) is True
        assert c.wait_error(runs).code == "cancelled"
        c.call("checkin", lease=lease)
        wait_workers(c, "idle", 3)
