"""The connection of the Python client: how it begins, how it is lost, and whose it is."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from pypool_client import AsyncClient, Client, ConnectionLost, PypoolError
from pypool_client import address

from tests.support.fake_daemon import Peer
from tests.support.python_client import BOTH, Asynchronous, Make, Serve, error_of, greeted, run


@BOTH
def test_a_call_that_was_sent_is_a_maybe_after_a_loss_and_later_ones_never(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.request("execute")

    with make(serve(greeted(script))) as client:
        error = error_of(client.execute, "f")
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.executed) == ("connection_lost", "maybe")
        error = error_of(client.execute, "f")
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.executed) == ("connection_lost", "never")


@BOTH
def test_a_call_whose_end_was_not_sent_is_a_never_after_a_loss(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.greet(max_frame=64 << 20)
        peer.read_bytes(1000)  # and closes with the rest unread

    with make(serve(script)) as client:
        error = error_of(client.execute, "f", b"x" * (32 << 20))
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.executed) == ("connection_lost", "never")


@BOTH
def test_what_the_daemon_says_before_it_closes_is_the_reason_of_the_loss(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.request("execute")
        peer.answer(None, error={"code": "bad_frame", "message": "no such length", "executed": "never"})

    with make(serve(greeted(script))) as client:
        assert "bad_frame: no such length" in error_of(client.execute, "f").message


def test_a_reply_that_came_before_the_end_counts_when_the_next_request_cannot_be_sent(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("execute")[0], "first")

    with Client(serve(greeted(script))) as client:
        first = client.submit("f")
        assert client._link is not None
        hangup = select.poll()
        hangup.register(client._link.sock, 0)
        assert hangup.poll(20_000)
        second = client.submit("f")
        assert first.result() == "first"
        error = error_of(second.result)
        assert isinstance(error, ConnectionLost) and error.executed == "never"


@BOTH
def test_connect_again_makes_a_new_connection(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("execute")[0], "second")

    with make(serve(greeted(lambda peer: None), greeted(script))) as client:
        assert isinstance(error_of(client.execute, "f"), ConnectionLost)
        client.connect()
        assert client.execute("f") == "second"


@BOTH
def test_close_ends_calls_and_may_come_twice(serve: Serve, make: Make) -> None:
    with make(serve(greeted(Peer.wait_end))) as client:
        client.close()
        client.close()
        assert error_of(client.execute, "f").executed == "never"


@BOTH
def test_a_daemon_that_refuses_hello_is_no_connection(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("hello")[0], error="bad_request: protocol must be 2 (executed: never)")
        peer.wait_end()

    with pytest.raises(ConnectionLost) as caught:
        make(serve(script)).__enter__()
    assert (caught.value.code, caught.value.executed) == ("cannot_connect", "never")
    assert "protocol must be 2" in caught.value.message


@BOTH
@pytest.mark.parametrize("answer", [None, {}, {"max_frame": "x"}])
def test_an_answer_to_hello_that_is_none_is_no_connection(serve: Serve, make: Make, answer: Any) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("hello")[0], answer)
        peer.wait_end()

    with pytest.raises(ConnectionLost):
        make(serve(script)).__enter__()


@BOTH
def test_no_socket_is_told_with_its_path(tmp_path: Path, make: Make) -> None:
    with pytest.raises(ConnectionLost) as caught:
        make(tmp_path / "none").__enter__()
    assert (caught.value.code, caught.value.executed) == ("cannot_connect", "never")
    assert f"{tmp_path}/none" in caught.value.message


def test_connect_waits_for_somebody_to_listen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with pytest.raises(ConnectionLost, match="refused"):
        Client(path).connect(timeout=0)
    seen = []
    for step in address.attempts(str(path), time.monotonic() + 20):
        seen.append(step)
        if len(seen) == 3:
            listener.listen()
    assert [type(step) for step in seen] == [float, float, float, socket.socket]
    assert isinstance(seen[-1], socket.socket)
    seen[-1].close()
    listener.close()


def test_the_default_path_is_that_of_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPOOL_SOCKET", "/x/s")
    assert address.default_path() == "/x/s"
    monkeypatch.delenv("PYPOOL_SOCKET")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert address.default_path() == "/run/user/7/pypoold/pypoold.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert address.default_path() == "/run/pypoold/pypoold.sock"


def test_a_client_that_never_connected_says_so() -> None:
    error = error_of(Client("/nowhere").execute, "f")
    assert isinstance(error, ConnectionLost) and error.executed == "never"
    assert "connect()" in error.message


def test_a_forked_child_is_refused_and_the_parent_goes_on(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("execute")[0], "parent")

    with Client(serve(greeted(script))) as client:
        child = os.fork()
        if child == 0:
            codes = []
            execute, submit = partial(client.execute, "f"), partial(client.submit, "f")
            for use in cast("list[Callable[[], Any]]", [client.connect, client.ping, execute, submit]):
                try:
                    use()
                except PypoolError as e:
                    codes.append((e.code, e.executed))
            client.close()
            os._exit(0 if codes == [("wrong_process", "never")] * 4 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert client.execute("f") == "parent"


def test_an_async_client_in_a_forked_child_is_refused_and_the_parent_goes_on(serve: Serve) -> None:
    async def use() -> None:
        async with AsyncClient(path) as client:
            child = os.fork()
            if child == 0:
                try:
                    await client.execute("f")
                except PypoolError as e:
                    client.close()
                    os._exit(0 if e.code == "wrong_process" else 1)
                os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
            assert await client.execute("f") == "parent"

    path = serve(greeted(lambda peer: peer.answer(peer.request("execute")[0], "parent")))
    run(use())


def test_an_async_client_in_another_loop_is_refused(serve: Serve) -> None:
    path = serve(greeted(Peer.wait_end))
    with Asynchronous(path) as wrapped:
        with pytest.raises(RuntimeError, match="event loop"):
            run(wrapped.client.ping())
