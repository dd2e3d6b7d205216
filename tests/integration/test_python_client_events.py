"""Events of pypool_client, of the real daemon."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from pypool_client import AsyncClient, Client, ConnectionLost

from tests.support.daemon import SLOW, Daemon


def test_events_are_told_to_a_blocking_client(daemon: Daemon) -> None:
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        with client.events(timeout=10) as events:
            assert events.pools == ["default"] and "output" not in events.kinds
            other.call("pool.pause")
            other.call("pool.resume")
            assert client.execute("echo", 1) == 1
            assert [next(events)["what"], next(events)["what"]] == ["paused", "resumed"]
            assert events.wait(0.01) is None
        other.call("pool.pause")
        other.call("pool.resume")
        assert client.execute("echo", 1) == 1 and list(events) == []
        assert not any(c["subscribed"] for c in other.call("clients"))


def test_events_are_told_to_an_async_client_until_the_daemon_ends(daemon: Daemon) -> None:
    async def main() -> list[str]:
        found = []
        async with AsyncClient(daemon.socket) as client:
            async with client.events("pool") as events:
                os.kill(daemon.pid, signal.SIGTERM)
                with pytest.raises(ConnectionLost):
                    async for event in events:
                        found.append(event["what"])
        return found

    assert asyncio.run(asyncio.wait_for(main(), 30 * SLOW)) == ["draining", "stopped"]
    daemon.process.wait(10 * SLOW)
