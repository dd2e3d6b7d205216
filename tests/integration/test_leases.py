"""Leases: a worker of one's own, until checkin, ttl, the end of the connection or of the worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import (
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


def checkout(c: Client, **params: Any) -> dict[str, Any]:
    got: dict[str, Any] = c.call("checkout", type="anonymous", **params)
    return got


def test_a_lease_is_one_worker_for_one_caller_until_checkin(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c, daemon.client() as other:
        lease = checkout(c)
        leased = [w for w in workers(c) if w["lease"] == lease["lease"]]
        assert [(w["worker"], w["pid"], w["state"]) for w in leased] == [(lease["worker"], lease["pid"], "busy")]
        assert 0 < lease["expires_ms"] and lease["generation"] == 1
        for _ in range(5):
            assert c.execute("pid", lease=lease["lease"]) == lease["pid"]
            assert other.execute("pid") != lease["pid"], "somebody else was given the leased worker"
            assert c.execute("pid") != lease["pid"], "a call without the lease ran under it"
        assert c.call("checkin", lease=lease["lease"]) is True
        wait_workers(c, "idle", 2)
        numbers = [other.start_execute("sleep", 1.0) for _ in range(2)]
        assert {r["worker"] for r in wait_running(c, "sleep", 2)} == {w["worker"] for w in workers(c)}
        for number in numbers:
            other.wait(number).value()


def test_calls_under_a_lease_run_in_order_and_do_not_pass_the_queue_of_the_pool(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c, daemon.client() as other:
        lease = checkout(c)["lease"]
        outsider = other.start_execute("append_line", str(ledger), "outsider")
        wait_queued(c, 1)
        numbers = [c.start_execute("append_line", str(ledger), str(i), lease=lease) for i in range(20)]
        for number in numbers:
            c.wait(number).value()
        assert lines(ledger) == [str(i) for i in range(20)]
        assert c.call("checkin", lease=lease) is True
        other.wait(outsider).value()
        assert lines(ledger)[-1] == "outsider"


def test_a_checkout_waits_for_a_worker_like_a_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        first = checkout(c)
        second = other.start("checkout", type="anonymous")
        wait_queued(c, 1)
        error = c.fail("checkout", type="anonymous", timeout_ms=100)
        assert (error.code, error.executed) == ("queue_timeout", "never")
        assert "1 of 1 busy" in error.message and "leased" in error.message
        c.call("checkin", lease=first["lease"])
        got = other.wait(second).value()
        assert got["pid"] == first["pid"] and got["lease"] != first["lease"]


def test_fault_99_leases_past_uid_max_leases_are_refused_on_every_connection_of_the_uid(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, uid_max_leases=3)
    with daemon.client() as c, daemon.client() as other:
        for _ in range(2):  # the counter returns to 0
            first, second = checkout(c), checkout(other)
            waiting = c.start("checkout", type="anonymous")  # is charged as well
            wait_queued(other, 1)
            for asker in (c, other):
                error = asker.fail("checkout", type="anonymous")
                assert (error.code, error.executed) == ("quota", "never") and "uid_max_leases is 3" in error.message
            assert c.call("checkin", lease=first["lease"]) is True
            third = c.wait(waiting).value()
            assert c.call("checkin", lease=third["lease"]) is True
            assert other.call("checkin", lease=second["lease"]) is True


def test_fault_25_a_forged_lease_is_not_found(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as thief:
        lease = checkout(c)["lease"]
        for forged in (lease, lease + 1, 0, 2**64 - 1):
            for error in (thief.fail_execute("pid", lease=forged), thief.fail("checkin", lease=forged)):
                assert (error.code, error.executed) == ("lease_not_found", "never")
        assert c.execute("echo", "still mine", lease=lease) == "still mine"


def test_fault_25_a_lease_that_was_given_back_has_expired_and_is_not_given_out_again(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        used = checkout(c)["lease"]
        assert c.call("checkin", lease=used) is True
        for error in (c.fail("checkin", lease=used), c.fail_execute("pid", lease=used)):
            assert (error.code, error.executed) == ("lease_expired", "never")
            assert "it was checked in" in error.message
        assert other.fail("checkin", lease=used).code == "lease_not_found"
        assert checkout(other)["lease"] != used
        assert c.fail_execute("pid", lease=used).code == "lease_expired", "it reached the next holder's worker"


def test_a_lease_ends_with_its_ttl_and_its_clean_worker_goes_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as other:
        began = now()
        lease = checkout(c, ttl_ms=200)
        assert lease["expires_ms"] == 200
        assert other.execute("pid") == lease["pid"], "the next in the queue gets the worker"
        assert 0.2 <= now() - began < 0.2 + 0.5 * SLOW
        error = c.fail_execute("pid", lease=lease["lease"])
        assert (error.code, error.executed) == ("lease_expired", "never")
        assert "its ttl was over" in error.message
        assert pool_of(c)["died"] == 0


def test_the_end_of_the_ttl_ends_the_running_call_and_those_that_wait_under_it(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        lease = checkout(c, ttl_ms=800)
        running = c.start_execute("record", str(ledger), "sleep", 60.0, "running", lease=lease["lease"])
        waiting = c.start_execute("record", str(ledger), "sleep", 60.0, "waiting", lease=lease["lease"])
        errors = [c.wait_error(n) for n in (running, waiting)]
        assert [(e.code, e.executed) for e in errors] == [("lease_expired", "maybe"), ("lease_expired", "never")]
        wait_note(ledger, "CallCancelled", "running")
        wait_workers(c, "idle", 1)
        assert c.execute("pid") == lease["pid"], "the handler had ended: the worker is clean"
        assert notes(ledger, "waiting") == []


def test_fault_27_a_worker_that_is_not_given_up_at_the_end_of_the_ttl_is_replaced(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="150ms")})
    with daemon.client() as c, daemon.client() as other:
        lease = checkout(c, ttl_ms=500)
        number = c.start_execute("record", str(tmp_path / "ledger"), "ignore", 60.0, lease=lease["lease"])
        assert c.wait_error(number).code == "lease_expired"
        assert other.execute("pid") != lease["pid"]
        assert wait_dead(c, lease["worker"])["why"] == "cancelled"


def test_a_lease_ends_with_its_connection_within_asecond(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        with daemon.client() as goes:
            lease = checkout(goes)
            goes.start_execute("record", str(ledger), "sleep", 60.0, "running", lease=lease["lease"])
            goes.start_execute("record", str(ledger), "sleep", 60.0, "waiting", lease=lease["lease"])
            wait_note(ledger, "begun", "running")
            waiting = c.start_execute("pid")
            wait_queued(c, 2)
        left = now()
        assert c.wait(waiting).value() == lease["pid"]
        assert now() - left < 1 * SLOW
        wait_note(ledger, "CallCancelled", "running")
        assert notes(ledger, "waiting") == []
        assert pool_of(c)["abandoned"] == 2


def test_a_lease_that_does_nothing_ends_with_its_connection(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        with daemon.client() as goes:
            pid = checkout(goes)["pid"]
        left = now()
        assert c.execute("pid") == pid
        assert now() - left < 1 * SLOW
        assert all(client["leases"] == 0 for client in c.call("clients"))


@pytest.mark.parametrize("what", ["idle", "running"])
def test_a_lease_whose_worker_dies_has_expired_and_the_pool_replaces_the_worker(
    start_daemon: StartDaemon, tmp_path: Path, what: str
) -> None:
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": pool("recorder", 1)})
    with daemon.client() as c:
        lease = checkout(c)
        numbers = []
        if what == "running":
            numbers = [
                c.start_execute("record", str(ledger), "sleep", 60.0, name, lease=lease["lease"])
                for name in ("running", "waiting")
            ]
            wait_note(ledger, "begun", "running")
        os.kill(lease["pid"], signal.SIGKILL)
        got = [(e.code, e.executed) for e in map(c.wait_error, numbers)]
        assert got == [("worker_died", "maybe"), ("lease_expired", "never")][: len(numbers)]
        wait_dead(c, lease["worker"])
        error = c.fail_execute("record", str(ledger), "sleep", 0.0, "late", lease=lease["lease"])
        assert (error.code, error.executed) == ("lease_expired", "never")
        assert "its worker ended" in error.message
        c.execute("record", str(ledger), "sleep", 0.0, "next")
        assert notes(ledger, "next")[0]["pid"] != lease["pid"]


def test_a_checkin_ends_the_running_call_of_the_lease(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        lease = checkout(c)
        running = c.start_execute("sleep", 60, lease=lease["lease"])
        waiting = c.start_execute("sleep", 60, lease=lease["lease"])
        wait_running(c, "sleep")
        assert c.call("checkin", lease=lease["lease"]) is True
        errors = [c.wait_error(n) for n in (running, waiting)]
        assert [(e.code, e.executed) for e in errors] == [("cancelled", "maybe"), ("cancelled", "never")]
        assert c.execute("pid") == lease["pid"]


def test_a_deadline_under_a_lease_ends_the_call_and_keeps_the_lease(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        lease = checkout(c)
        error = c.fail_execute("sleep", 60, lease=lease["lease"], timeout_ms=100)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        assert c.execute("pid", lease=lease["lease"]) == lease["pid"]


def test_output_of_calls_under_a_lease_belongs_to_its_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        lease = checkout(c)["lease"]
        printing = [c.start_execute("print_then", i, lease=lease) for i in range(10)]
        late = c.start_execute("sleep", 60, lease=lease, timeout_ms=1500)
        for i, number in enumerate(printing):
            assert c.wait(number).value() == i
        assert c.wait_error(late).cause["output"] == []


def test_a_daemon_that_stops_ends_leases_that_do_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        checkout(c)
        began = now()
        daemon.stop()
        assert now() - began < 3 * SLOW


def test_all_workers_of_a_pool_can_be_leased_and_come_back(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 3)})
    with daemon.client() as c:
        leases = [checkout(c) for _ in range(3)]
        assert len({lease["worker"] for lease in leases}) == 3
        assert pool_of(c)["idle"] == 0 and pool_of(c)["leases"] == 3
        for lease in leases:
            c.call("checkin", lease=lease["lease"])
        eventually(lambda: len(workers(c, "idle")) == 3, "all are idle again", 5 * SLOW)


def test_fault_69_a_lease_ends_with_drain_timeout_when_its_worker_is_due_and_its_holder_is_told(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_requests=3, drain_timeout="1500ms")})
    with daemon.client() as c:
        lease = checkout(c)
        for _ in range(5):
            assert c.execute("pid", lease=lease["lease"]) == lease["pid"]
        wait_workers(c, "draining", 1)
        name, [params] = c.wait_notification()
        assert (name, params["lease"], params["reason"]) == ("lease_lost", lease["lease"], "drained")
        assert "drain_timeout" in params["message"]
        error = c.fail("execute", target="pid", lease=lease["lease"])
        assert (error.code, error.executed) == ("lease_expired", "never") and "drain_timeout" in error.message
        assert c.execute("pid") != lease["pid"]
