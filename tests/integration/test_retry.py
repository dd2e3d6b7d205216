"""Calls whose worker is lost: run again when handler and caller both say that they may be, and else never."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pypool_client import AsyncClient, PypoolError
from pypool_client import Client as PythonClient

from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import lines, wait_dead, wait_running, wait_workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def start(start_daemon: StartDaemon, workers: int = 2, **settings: Any) -> Daemon:
    return start_daemon({"default": pool("again", workers, breaker_failures=0, poison_kills=0, **settings)})


def test_the_second_worker_answers_and_both_tries_are_counted(start_daemon: StartDaemon, ledger: Path) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        answer = c.execute("marked", str(ledger), idempotent=True, meta=True)
        assert answer["value"] == 2 and answer["meta"]["attempts"] == 2
        first, second = lines(ledger)
        assert first != second and answer["meta"]["pid"] == int(second)
        assert c.execute("marked", str(ledger), idempotent=True, meta=True)["meta"]["attempts"] == 1
        calls = c.call("status")["calls"]
        assert (calls["accepted"], calls["completed"], calls["failed"]) == (2, 2, 0)
        wait_workers(c, "idle", 2)


def test_it_waits_for_a_worker_when_there_is_no_other(start_daemon: StartDaemon, ledger: Path) -> None:
    with start(start_daemon, 1).client() as c:
        answer = c.execute("marked", str(ledger), idempotent=True, meta=True, queue_timeout_ms=1)
        assert answer["value"] == 2 and answer["meta"]["attempts"] == 2
        wait_workers(c, "idle", 1)


def test_pypoolctl_asks_for_it(start_daemon: StartDaemon, ledger: Path) -> None:
    daemon = start(start_daemon)
    done = daemon.ctl("call", "marked", json.dumps(str(ledger)), "--idempotent")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    ledger.unlink()
    done = daemon.ctl("call", "marked", json.dumps(str(ledger)))
    assert done.returncode == 1 and "worker_died" in done.stderr and len(lines(ledger)) == 1
    with daemon.client() as c:
        wait_workers(c, "idle", 2)


def test_the_python_clients_ask_for_it(start_daemon: StartDaemon, ledger: Path) -> None:
    daemon = start(start_daemon)

    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            assert await client.execute("marked", str(ledger), idempotent=True) == 2

    asyncio.run(main())
    with PythonClient(daemon.socket) as client:
        ledger.unlink()
        assert client.execute("marked", str(ledger), idempotent=True) == 2
        ledger.unlink()
        assert client.submit("marked", str(ledger), idempotent=True).result() == 2
        ledger.unlink()
        with pytest.raises(PypoolError) as told:
            client.execute("always", str(ledger), idempotent=True)
        assert (told.value.code, told.value.executed, told.value.fields["attempts"]) == ("worker_died", "maybe", 2)
    with daemon.client() as c:
        wait_workers(c, "idle", 2)


@pytest.mark.parametrize("target, asked", [("unmarked", True), ("marked", False), ("unmarked", False)])
def test_it_is_not_run_again_unless_both_sides_say_so(
    start_daemon: StartDaemon, ledger: Path, target: str, asked: bool
) -> None:
    with start(start_daemon).client() as c:
        error = c.fail_execute(target, str(ledger), idempotent=asked)
        assert (error.code, error.executed) == ("worker_died", "maybe") and "attempts" not in error.fields
        assert ("not marked with @expose(idempotent=True)" in error.message) == asked
        wait_workers(c, "idle", 2)
        assert len(lines(ledger)) == 1


def test_it_is_run_again_once(start_daemon: StartDaemon, ledger: Path) -> None:
    with start(start_daemon).client() as c:
        error = c.fail_execute("always", str(ledger), idempotent=True)
        assert (error.code, error.executed, error.fields["attempts"]) == ("worker_died", "maybe", 2)
        assert "it was the second try" in error.message
        wait_workers(c, "idle", 2)
        assert len(lines(ledger)) == 2


def test_it_is_not_run_again_under_a_lease(start_daemon: StartDaemon, ledger: Path) -> None:
    with start(start_daemon).client() as c:
        lease = c.call("checkout", type="anonymous")["lease"]
        error = c.fail_execute("marked", str(ledger), idempotent=True, lease=lease)
        assert (error.code, error.executed) == ("worker_died", "maybe")
        assert "not tried again: it ran under a lease" in error.message
        wait_workers(c, "idle", 2)
        assert len(lines(ledger)) == 1


def test_the_second_try_ends_at_the_deadline_of_the_first(start_daemon: StartDaemon, ledger: Path) -> None:
    with start(start_daemon).client() as c:
        began = time.monotonic()
        error = c.fail_execute("dies_then_hangs", str(ledger), idempotent=True, timeout_ms=1500)
        assert 1.5 <= time.monotonic() - began < 1.5 + 0.75 * SLOW
        assert (error.code, error.executed, error.fields["attempts"]) == ("deadline_exceeded", "maybe", 2)
        assert len(lines(ledger)) == 2


def test_it_is_never_run_again_after_its_deadline(start_daemon: StartDaemon, ledger: Path) -> None:
    """Its worker is killed for going on after it."""
    with start(start_daemon, cancel_grace="100ms").client() as c:
        error = c.fail_execute("hangs", str(ledger), idempotent=True, timeout_ms=500)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        wait_dead(c, error.fields["worker"])
        wait_workers(c, "idle", 2)
        assert c.execute("pid") > 0 and len(lines(ledger)) == 1


def test_it_is_never_run_again_after_a_cancel(start_daemon: StartDaemon, ledger: Path) -> None:
    with start(start_daemon, cancel_grace="100ms").client() as c:
        number = c.start_execute("hangs", str(ledger), idempotent=True)
        (running,) = wait_running(c, "hangs")
        eventually(lambda: lines(ledger), "it has begun")
        assert c.call("cancel", id=number) is True
        error = c.wait_error(number)
        assert (error.code, error.executed) == ("cancelled", "maybe")
        wait_dead(c, running["worker"])
        wait_workers(c, "idle", 2)
        assert c.execute("pid") > 0 and len(lines(ledger)) == 1
