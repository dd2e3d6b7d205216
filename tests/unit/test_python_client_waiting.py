"""How the Python client waits: time, cancellation, many calls at once."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from typing import Any

import pytest
from pypool_client import AsyncClient, Client
from pypool_client import params

from tests.support.fake_daemon import Peer
from tests.support.python_client import BOTH, LEASE, Make, Serve, error_of, greeted, run


# ---- time and cancellation


@BOTH
def test_a_silent_daemon_is_given_up_and_the_call_cancelled_there(
    serve: Serve, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(params, "GRACE", 0.01)

    def script(peer: Peer) -> None:
        number, sent = peer.request("execute")
        assert sent["timeout_ms"] == 50
        cancel, sent = peer.request("cancel")
        assert sent == {"id": number}
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "maybe"})
        peer.answer(cancel, True)
        peer.answer(peer.request("execute")[0], "next")

    with make(serve(greeted(script))) as client:
        error = error_of(client.execute, "f", timeout=0.05)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        assert client.execute("f") == "next"


@BOTH
def test_a_lease_that_comes_too_late_is_given_back(serve: Serve, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "GRACE", 0.01)

    def script(peer: Peer) -> None:
        number, _ = peer.request("checkout")
        cancel, _ = peer.request("cancel")
        peer.answer(number, LEASE)
        peer.answer(cancel, False)
        seen = []
        for _ in range(3):
            _, number, method, sent = peer.receive()
            seen.append((method, sent))
            peer.answer(number, True)
        assert ("checkin", [{"lease": 7}]) in seen

    with make(serve(greeted(script))) as client:
        assert error_of(client.checkout, timeout=0.05).code == "deadline_exceeded"
        client.ping()
        client.ping()


def test_an_interrupted_wait_cancels_the_call(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        cancel, sent = peer.request("cancel")
        assert sent == {"id": number}
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "maybe"})
        peer.answer(cancel, True)
        peer.answer(peer.request("execute")[0], "next")

    class Interrupted:
        """What poll() is to a thread that gets ^C in it."""

        def register(self, *unused: Any) -> None:
            pass

        def poll(self, *unused: Any) -> None:
            raise KeyboardInterrupt

    with Client(serve(greeted(script))) as client:
        pending = client.submit("f")
        with monkeypatch.context() as patch:
            patch.setattr(select, "poll", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                pending.result()
        assert error_of(pending.result).code == "cancelled"
        assert client.execute("f") == "next"


class Interruptible:
    """A socket whose send() is what it is to a thread that gets ^C in it."""

    def __init__(self, sock: socket.socket) -> None:
        self.close = sock.close

    def send(self, *unused: Any) -> int:
        raise KeyboardInterrupt


def test_an_interrupted_write_ends_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(serve(greeted(Peer.wait_end))) as client:
        assert client._link is not None
        monkeypatch.setattr(client._link, "sock", Interruptible(client._link.sock))
        with pytest.raises(KeyboardInterrupt):
            client.execute("f")
        assert not client.connected


def test_a_cancelled_task_cancels_its_call(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        peer.send([2, "event", []])
        cancel, sent = peer.request("cancel")
        assert sent == {"id": number}
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "maybe"})
        peer.answer(cancel, True)
        peer.answer(peer.request("execute")[0], "next")

    async def use() -> None:
        async with AsyncClient(path) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.execute("f"), 0.05)
            assert await client.execute("f") == "next"

    path = serve(greeted(script))
    run(use())


def test_a_call_that_was_not_sent_is_withdrawn(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "GRACE", 0.01)
    gate = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet(max_frame=64 << 20)
        assert gate.wait(20)
        first, sent = peer.request("execute")
        assert sent["target"] == "large"
        peer.answer(first, "large")
        third, sent = peer.request("execute")
        assert sent["target"] == "third"
        peer.answer(third, "third")

    with Client(serve(script)) as client:
        large = client.submit("large", b"x" * (8 << 20))
        error = error_of(client.execute, "second", timeout=0.05)
        assert (error.code, error.executed) == ("deadline_exceeded", "never")
        gate.set()
        assert large.result() == "large"
        assert client.execute("third") == "third"


# ---- many at once


def test_submitted_calls_are_answered_in_any_order(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        calls = [peer.request("execute") for _ in range(3)]
        for number, sent in reversed(calls):
            peer.answer(number, sent["args"])

    with Client(serve(greeted(script))) as client:
        pending = [client.submit("f", i) for i in range(3)]
        assert [p.result() for p in pending] == [[0], [1], [2]]
        assert all(p.done() for p in pending)
        assert pending[0].result() == [0]
        assert pending[0].cancel() is False


def test_a_submitted_call_can_be_cancelled(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        cancel, sent = peer.request("cancel")
        assert sent == {"id": number}
        peer.answer(cancel, True)
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "never"})

    with Client(serve(greeted(script))) as client:
        pending = client.submit("f")
        assert not pending.done()
        assert pending.cancel() is True
        assert error_of(pending.result).code == "cancelled"


def test_a_client_that_sends_much_takes_replies_meanwhile(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        for _ in range(200):
            number, sent = peer.request("execute")
            peer.answer(number, sent["args"][0])  # blocks when the client does not read

    with Client(serve(greeted(script))) as client:
        pending = [client.submit("echo", b"x" * 100_000) for _ in range(200)]
        assert {len(p.result()) for p in pending} == {100_000}


def test_tasks_share_a_connection(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        calls = [peer.request("execute") for _ in range(100)]
        for number, sent in reversed(calls):
            peer.answer(number, sent["args"][0])

    async def use() -> None:
        async with AsyncClient(path) as client:
            assert await asyncio.gather(*(client.execute("f", i) for i in range(100))) == list(range(100))

    path = serve(greeted(script))
    run(use())


def test_a_second_thread_is_told_that_the_client_is_busy(serve: Serve) -> None:
    waiting, gate = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        waiting.set()
        assert gate.wait(20)
        peer.answer(number, "first")

    with Client(serve(greeted(script))) as client:
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(client.execute("f")))
        thread.start()
        assert waiting.wait(20)
        error = error_of(client.execute, "f")
        assert (error.code, error.executed) == ("busy", "never")
        gate.set()
        thread.join()
        assert results == ["first"]
