"""Sessions of the Python client, blocking and asynchronous, against a fake daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pypool_client import AsyncSession, Client, Session

from tests.support.fake_daemon import Peer
from tests.support.python_client import BOTH, LEASE, Asynchronous, Make, Serve, error_of, greeted

STATE = {"session": "cart", "pool": "default", "opened": True, "worker": None, "generation": 0, "expires_ms": 1000,
         "keys": 0, "bytes": 0}


class Waiting:
    """The blocking session's interface over an AsyncSession."""

    def __init__(self, client: Asynchronous, session: AsyncSession) -> None:
        self._client, self._session = client, session

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)
        return lambda *a, **k: self._client.loop.run_until_complete(asyncio.wait_for(method(*a, **k), 30))


def session_of(client: Any, *args: Any) -> Any:
    if isinstance(client, Client):
        session = client.session(*args)
        assert isinstance(session, Session)
        return session
    return Waiting(client, client.client.session(*args))


@BOTH
def test_a_session_sends_what_the_protocol_names(serve: Serve, make: Make) -> None:
    cart: dict[str, Any] = {"session": "cart", "pool": "p"}
    expected: list[tuple[str, dict[str, Any], Any]] = [
        ("execute", {"target": "f", "args": [1], **cart}, "one"),
        ("execute", {"target": "f", "args": {"a": 1}, "timeout_ms": 2000, "queue_timeout_ms": 1000, "open": False,
                     "meta": True, "idempotent": True, **cart}, "two"),
        ("session.open", cart, STATE),
        ("session.open", {"reset": True, "ttl_ms": 1500, **cart}, STATE),
        ("session.get", cart, {"n": 1}),
        ("session.get", {"key": "n", **cart}, 1),
        ("session.put", {"values": {"n": 2}, **cart}, True),
        ("session.put", {"values": {}, "open": False, "timeout_ms": 2000, "queue_timeout_ms": 1000, **cart}, True),
        ("session.delete", {"keys": ["a", "b"], "timeout_ms": 2000, **cart}, 1),
        ("session.close", cart, False),
        ("checkout", {"type": "session", "session": "cart", "ttl_ms": 5000}, LEASE),
        ("execute", {"target": "f", "session": "cart", "open": False}, "three"),
        ("execute", {"target": "f"}, "four"),
    ]

    def script(peer: Peer) -> None:
        for method, params, answer in expected:
            number, sent = peer.request(method)
            assert sent == params
            peer.answer(number, answer)

    with make(serve(greeted(script))) as client:
        session = session_of(client, "cart", "p")
        assert session.execute("f", 1) == "one"
        options = {"timeout": 2, "queue_timeout": 1, "open": False, "meta": True, "idempotent": True}
        assert session.execute("f", a=1, **options) == "two"
        assert session.open() == STATE
        assert session.open(reset=True, ttl=1.5) == STATE
        assert session.get() == {"n": 1}
        assert session.get("n") == 1
        assert session.put({"n": 2}) is None
        session.put({}, open=False, timeout=2, queue_timeout=1)
        assert session.delete("a", "b", timeout=2) == 1
        assert session.close() is False
        assert client.checkout(session="cart", ttl=5).id == 7
        assert client.execute("f", session="cart", open=False) == "three"
        assert client.execute("f", open=False) == "four"


@BOTH
def test_an_error_names_the_session(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        error = {"code": "session_lost", "message": "m", "executed": "never", "session": "cart"}
        peer.answer(peer.request("session.get")[0], error=error)
        peer.answer(peer.request("ping")[0], error={"code": "internal", "message": "m", "executed": "maybe"})

    with make(serve(greeted(script))) as client:
        error = error_of(session_of(client, "cart").get)
        assert (error.code, error.executed, error.session) == ("session_lost", "never", "cart")
        assert error_of(client.ping).session is None


def test_a_ttl_that_is_no_time_is_refused_before_anything_is_sent(serve: Serve) -> None:
    with Client(serve(greeted(lambda peer: peer.wait_end()))) as client:
        with pytest.raises(ValueError):
            client.session("cart").open(ttl=0)
