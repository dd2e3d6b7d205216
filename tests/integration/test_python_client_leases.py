"""Direct leases and sessions of pypool_client against the real daemon."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from pypool_client import AsyncClient, Client, PypoolError

from tests.support.daemon import APPS, DEMO, Daemon
from tests.support.waiting import eventually

SESSIONS = {"app": "sessions", "path": [str(APPS)], "min_workers": 2, "max_workers": 2}


def failure(function: Callable[..., Any], *args: Any, **options: Any) -> PypoolError:
    with pytest.raises(PypoolError) as caught:
        function(*args, **options)
    return caught.value


def direct_calls(client: Client) -> tuple[int, int]:
    (pool,) = client.call("pools")
    return pool["direct_calls"], pool["direct_errors"]


def test_a_worker_keeps_the_timeout_of_a_direct_call(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        lease = client.checkout(direct=True)
        error = failure(lease.execute, "sleep", 60, timeout=0.2)
        assert (error.code, error.executed) == ("deadline_exceeded", "yes")
        assert lease.execute("echo", 1, timeout=5) == 1
        lease.checkin()
        eventually(lambda: direct_calls(client) == (2, 1), "its calls are counted")


def test_one_that_does_not_keep_it_is_killed(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": {**DEMO, "cancel_grace": "200ms", "min_workers": 1, "max_workers": 1}})
    with Client(daemon.socket) as client:
        lease = client.checkout(direct=True)
        error = failure(lease.execute, "busy_c", 600, timeout=0.2)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        assert "did not answer" in error.message
        assert client.execute("echo", 1) == 1  # on the next worker
        assert failure(lease.execute, "echo", 1).code in ("lease_expired", "lease_not_found")


def test_a_direct_lease_ends_with_its_ttl_and_its_holder_is_told(daemon: Daemon) -> None:
    news: list[dict[str, Any]] = []
    with Client(daemon.socket) as client:
        client.on_lease_lost = news.append
        lease = client.checkout(direct=True, ttl=0.2)
        error = failure(lease.execute, "sleep", 60)
        assert (error.code, error.executed) == ("lease_expired", "maybe")
        assert "ttl" in error.message
        assert [(one["lease"], one["reason"]) for one in news] == [(lease.id, "ttl")]


def test_cancelling_a_task_stops_its_direct_call(daemon: Daemon) -> None:
    async def use() -> None:
        async with AsyncClient(daemon.socket) as client:
            lease = await client.checkout(direct=True)
            task = asyncio.create_task(lease.execute("sleep", 60))
            while not (await client.call("why", worker=lease.worker))["call"]:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (await client.call("why", worker=lease.worker))["state"] != "idle":
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(use(), 60))


def test_many_direct_leases_live_in_one_loop(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": {**DEMO, "min_workers": 4, "max_workers": 4}})

    async def work(client: AsyncClient, n: int) -> list[Any]:
        async with client.lease(direct=True) as lease:
            return list(await asyncio.gather(*(lease.execute("echo", (n, i)) for i in range(50))))

    async def use() -> None:
        async with AsyncClient(daemon.socket) as client:
            done = await asyncio.gather(*(work(client, n) for n in range(12)))
            assert done == [[[n, i] for i in range(50)] for n in range(12)]

    asyncio.run(asyncio.wait_for(use(), 60))


def test_a_session_stays_in_its_process_until_it_is_lost(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": SESSIONS})
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        session, seen = client.session("s"), other.session("s")
        pid, _ = session.execute("here")
        assert [session.execute("here"), seen.execute("here")] == [[pid, 2], [pid, 3]]
        session.execute("write", "key", b"\xff")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: bool(client.call("session.list")[0]["state"] == "lost"), "its worker is gone")
        error = failure(seen.execute, "here")
        assert (error.code, error.executed, error.session) == ("session_lost", "never", "s")
        assert seen.open()["opened"] is True
        assert session.execute("here")[0] != pid
        assert session.execute("read") == {"key": b"\xff"}
        assert session.open(reset=True)["keys"] == 0
        assert (session.close(), session.close()) == (True, False)


def test_a_leased_session_is_its_holders_alone(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": SESSIONS})
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        with client.lease(session="s") as lease:
            assert lease.execute("bump") == 1
            assert failure(other.session("s").execute, "bump").code == "session_busy"
            assert client.session("s").get() == {"first": 1, "second": 1}
            assert client.execute("bump", session="s") == 2
        assert other.session("s").execute("bump") == 3
