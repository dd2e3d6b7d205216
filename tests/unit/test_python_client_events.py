"""Events of the Python client, against a daemon that the test plays itself."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from pypool_client import AsyncClient, Client, ConnectionLost, PypoolError
from pypool_client import events as events_module
from pypool_client.wire import frame

from tests.support.fake_daemon import Peer
from tests.support.python_client import Serve, greeted, run


def event(n: int, **more: Any) -> list[Any]:
    return [2, "event", [{"kind": "pool", "what": "paused", "n": n, **more}]]


def agree(peer: Peer, **expected: Any) -> None:
    """Answer a subscribe with these params."""
    number, params = peer.request("subscribe")
    assert params == expected
    peer.answer(number, {"kinds": params.get("kinds", ["pool"]), "pools": ["default"], "dropped": 0})


def test_what_comes_right_behind_the_answer_belongs_to_it_and_what_comes_before_does_not(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer, kinds=["pool"])
        peer.send(event(1))
        number, _ = peer.request("subscribe")
        peer.send(event(2))
        answer = [1, number, None, {"kinds": ["lease"], "pools": [], "dropped": 0}]
        peer.sock.sendall(frame(msgpack.packb(answer)) + frame(msgpack.packb(event(3))))  # in one piece
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        first = client.events("pool")
        second = client.events("lease", pools=["default"])
        assert (first.kinds, second.kinds) == (["pool"], ["lease"])
        assert [e["n"] for e in first] == [1, 2], "then it is over"
        assert next(second)["n"] == 3
        assert second.wait(0.01) is None


def test_events_are_read_by_other_calls_too_and_close_ends_them(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        number, _ = peer.request("execute")
        peer.send(event(1))
        peer.send(event(2))
        peer.answer(number, "value")
        agree(peer, kinds=[])
        peer.send(event(3))  # to nobody
        peer.answer(peer.request("ping")[0], "pong")

    with Client(serve(greeted(script))) as client:
        with client.events() as events:
            assert client.execute("f") == "value"
            assert [next(events)["n"], next(events)["n"]] == [1, 2]
        assert list(events) == [] and events.wait() is None
        events.close()
        client.ping()


def test_what_is_refused_raises_and_leaves_the_former_as_it_was(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        number, _ = peer.request("subscribe")
        peer.answer(number, error={"code": "bad_request", "message": "no kind", "executed": "never"})
        peer.send(event(1))
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        events = client.events()
        with pytest.raises(PypoolError) as caught:
            client.events("weather")
        assert caught.value.code == "bad_request"
        assert next(events)["n"] == 1


def test_a_lost_connection_is_no_end_of_the_events(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        peer.send(event(1))

    with Client(serve(greeted(script))) as client:
        events = client.events()
        assert next(events)["n"] == 1
        with pytest.raises(ConnectionLost):
            next(events)
        events.close()
        assert list(events) == []


@pytest.mark.parametrize("dropped", [5, "many", None])
def test_those_that_nobody_takes_are_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch, dropped: Any) -> None:
    monkeypatch.setattr(events_module, "WAITING_MAX", 2)

    def script(peer: Peer) -> None:
        agree(peer)
        for n in range(3):
            peer.send(event(n))
        peer.send(event(3, dropped=dropped))
        peer.answer(peer.request("ping")[0], "pong")
        number, _ = peer.request("ping")
        peer.send(event(4))
        peer.answer(number, "pong")

    with Client(serve(greeted(script))) as client:
        events = client.events()
        client.ping()
        taken = [next(events), next(events)]
        client.ping()
        taken.append(next(events))
        assert [e["n"] for e in taken] == [0, 1, 4]
        assert [e.get("dropped") for e in taken] == [None, None, 7 if dropped == 5 else 2]


def test_news_that_are_no_event_are_skipped(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        for news in ([2, "event", []], [2, "event", [5]], [2, "weather", [{"n": 0}]], event(1)):
            peer.send(news)
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        events = client.events()
        assert [next(events), next(events)] == [{}, {}], "what an event has is not looked at"
        assert next(events)["n"] == 1


# ---- asyncio


def test_async_events_come_to_who_waits_while_calls_go_on(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer, kinds=["pool"], pools=["a"])
        number, _ = peer.request("execute")
        peer.send(event(1))
        peer.answer(number, "value")
        peer.send(event(2))
        agree(peer, kinds=[])

    async def main() -> None:
        async with AsyncClient(serve(greeted(script))) as client:
            events = client.events("pool", pools=["a"])
            assert events.kinds == []
            async with events:
                assert events.kinds == ["pool"] and events.pools == ["default"]
                waiting = asyncio.ensure_future(events.__anext__())
                assert await client.execute("f") == "value"
                assert (await waiting)["n"] == 1
                assert (await events.__anext__())["n"] == 2
            assert [e async for e in events] == []

    run(main())


def test_async_events_begin_with_the_first_step_and_another_takes_their_place(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        peer.send(event(1))
        agree(peer, kinds=["lease"])
        peer.send(event(2))
        peer.wait_end()

    async def main() -> None:
        async with AsyncClient(serve(greeted(script))) as client:
            first = client.events()
            assert (await first.__anext__())["n"] == 1
            waiting = asyncio.ensure_future(first.__anext__())
            await asyncio.sleep(0)
            async for found in client.events("lease"):
                assert found["n"] == 2
                break
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(main())


def test_async_events_end_with_the_connection_for_who_waits(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        agree(peer)
        peer.answer(peer.request("ping")[0], "pong")

    async def main() -> None:
        async with AsyncClient(serve(greeted(script))) as client:
            async with client.events() as events:
                waiting = asyncio.ensure_future(events.__anext__())
                await client.ping()
                with pytest.raises(ConnectionLost):
                    await waiting
                with pytest.raises(ConnectionLost):
                    await events.__anext__()

    run(main())


def test_async_events_that_are_refused_raise(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("subscribe")
        peer.answer(number, error={"code": "denied", "message": "not you", "executed": "never"})

    async def main() -> None:
        async with AsyncClient(serve(greeted(script))) as client:
            with pytest.raises(PypoolError) as caught:
                async for _ in client.events():
                    pass
            assert caught.value.code == "denied"

    run(main())
