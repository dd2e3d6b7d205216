"""pypool_client against a daemon of the test's own making."""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
from pypool_client import AsyncClient, Client, ConnectionLost, PypoolError
from pypool_client import address, params

from tests.support.fake_daemon import FakeDaemon, Peer, Script

LEASE = {"lease": 7, "worker": 3, "pid": 812, "generation": 1, "expires_ms": 60000}

Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that starts a fake daemon with these scripts and returns the path of its socket."""
    daemons: list[FakeDaemon] = []

    def start(*scripts: Script) -> Path:
        daemons.append(FakeDaemon(tmp_path / "s", *scripts))
        return daemons[-1].path

    yield start
    for daemon in daemons:
        daemon.close()


def greeted(rest: Script) -> Script:
    def script(peer: Peer) -> None:
        peer.greet()
        rest(peer)

    return script


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


class Asynchronous:
    """The blocking client's interface over an AsyncClient, so that one test is for both."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = AsyncClient(path, **options)

    def __enter__(self) -> Asynchronous:
        try:
            self.loop.run_until_complete(self.client.connect())
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(self, *unused: Any) -> None:
        self.client.close()
        self.loop.close()

    @property
    def hello(self) -> dict[str, Any]:
        return self.client.hello

    @property
    def connected(self) -> bool:
        return self.client.connected

    def close(self) -> None:
        self.client.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *a, **k: self.loop.run_until_complete(asyncio.wait_for(getattr(self.client, name)(*a, **k), 30))


BOTH = pytest.mark.parametrize("make", [Client, Asynchronous])
Make = Callable[..., Any]


def error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> PypoolError:
    with pytest.raises(PypoolError) as caught:
        function(*args, **kwargs)
    return caught.value


# ---- requests


@BOTH
def test_hello_comes_first_and_its_answer_is_kept(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        assert peer.greet() == {"protocol": 1, "client": "a test"}
        peer.wait_end()

    with make(serve(script), name="a test") as client:
        assert client.hello["role"] == "admin" and client.hello["pools"] == ["default"]


@BOTH
def test_execute_sends_what_the_protocol_names(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        for expected in (
            {"target": "add", "args": [2, 3]},
            {"target": "add", "args": {"a": 2, "target": 3}},
            {"target": "f"},
            {
                "target": "f",
                "args": [None],
                "pool": "p",
                "lease": 7,
                "timeout_ms": 1500,
                "queue_timeout_ms": 1,
                "meta": True,
            },
        ):
            number, sent = peer.request("execute")
            assert sent == expected
            peer.answer(number, "ok")

    with make(serve(greeted(script))) as client:
        assert client.execute("add", 2, 3) == "ok"
        assert client.execute("add", a=2, target=3) == "ok"
        assert client.execute("f") == "ok"
        options = {"pool": "p", "lease": 7, "timeout": 1.5, "queue_timeout": 0.0001, "meta": True}
        assert client.execute("f", None, **options) == "ok"


@BOTH
def test_call_sends_params_as_they_are_and_ping_and_cancel_are_calls(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        number, sent = peer.request("logs")
        assert sent == {"lines": 10, "worker": 3}
        peer.answer(number, [])
        number, sent = peer.request("ping")
        assert sent == {}
        peer.answer(number, "pong")
        number, sent = peer.request("cancel")
        assert sent == {"call": 17}
        peer.answer(number, False)

    with make(serve(greeted(script))) as client:
        assert client.call("logs", lines=10, worker=3, pool=None) == []
        client.ping()
        assert client.cancel(17) is False


@BOTH
def test_the_client_s_timeout_is_that_of_calls_that_name_none(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        for expected in (2000, 500):
            number, sent = peer.request("execute")
            assert sent["timeout_ms"] == expected
            peer.answer(number)

    with make(serve(greeted(script)), timeout=2) as client:
        client.execute("f")
        client.execute("f", timeout=0.5)


@BOTH
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": 2.2e6}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"queue_timeout": True}, TypeError),
        ({"x": 1}, TypeError),  # beside a positional argument
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_sent(
    serve: Serve, make: Make, options: dict[str, Any], kind: type[Exception]
) -> None:
    with make(serve(greeted(Peer.wait_end))) as client:
        with pytest.raises(kind):
            client.execute("f", 1, **options)


@BOTH
@pytest.mark.parametrize("value", [object(), 2**64, {1, 2}])
def test_what_cannot_be_encoded_is_refused_and_nothing_is_sent(serve: Serve, make: Make, value: Any) -> None:
    with make(serve(greeted(Peer.wait_end))) as client:
        with pytest.raises((TypeError, OverflowError)):
            client.execute("f", value)


@BOTH
def test_a_request_over_max_frame_is_never_sent(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.greet(max_frame=2000)
        peer.wait_end()

    with make(serve(script)) as client:
        error = error_of(client.execute, "f", "x" * 2000)
        assert (error.code, error.executed) == ("too_large", "never")


def test_a_timeout_in_ms_is_never_shorter_than_it_was_in_seconds() -> None:
    assert [params.milliseconds("t", t) for t in (0.0001, 0.0011, 1, None)] == [1, 2, 1000, None]


# ---- replies


@BOTH
def test_an_error_map_becomes_an_exception(serve: Serve, make: Make) -> None:
    fields = {
        "code": "worker_died",
        "message": "killed by signal 9",
        "executed": "maybe",
        "retry_after_ms": 40,
        "worker": 3,
        "cause": {"signal": 9},
    }

    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        peer.answer(number, error=fields)

    with make(serve(greeted(script))) as client:
        error = error_of(client.execute, "f")
    assert (error.code, error.message, error.executed) == ("worker_died", "killed by signal 9", "maybe")
    assert (error.retry_after_ms, error.cause, error.fields) == (40, {"signal": 9}, fields)
    assert str(error) == "worker_died: killed by signal 9 (executed: maybe)"
    assert not isinstance(error, ConnectionLost)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.fields, copy.executed) == (PypoolError, fields, "maybe")


@BOTH
def test_an_error_that_says_nothing_of_executed_is_a_maybe(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("execute")[0], error={"code": "new", "message": "m"})
        peer.answer(peer.request("execute")[0], error=5)

    with make(serve(greeted(script))) as client:
        assert error_of(client.execute, "f").executed == "maybe"
        error = error_of(client.execute, "f")
        assert (error.code, error.executed) == ("bad_reply", "maybe")


@BOTH
def test_values_come_back_as_they_are(serve: Serve, make: Make) -> None:
    value: list[Any] = [None, True, -1, 2**64 - 1, 1.5, "é", b"\x00\xff", {"a": {1: []}}, "x" * 700_000]

    def script(peer: Peer) -> None:
        number, sent = peer.request("execute")
        peer.answer(number, sent["args"][0])

    with make(serve(greeted(script))) as client:
        assert client.execute("echo", value) == value


@BOTH
def test_a_result_that_is_no_python_value_fails_its_own_call_only(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        peer.send_body(b"\x94\x01" + msgpack.packb(number) + b"\xc0\x81\x91\x01\x02")  # {[1]: 2}
        peer.answer(peer.request("execute")[0], "fine")

    with make(serve(greeted(script))) as client:
        error = error_of(client.execute, "f")
        assert (error.code, error.executed) == ("bad_reply", "yes")
        assert client.execute("f") == "fine"


@BOTH
def test_notifications_and_replies_in_pieces_are_fine(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("execute")
        peer.send([2, "event", [{}]])
        body = msgpack.packb([1, number, None, "whole"])
        for byte in struct.pack(">I", len(body)) + body:
            peer.sock.sendall(bytes([byte]))

    with make(serve(greeted(script))) as client:
        assert client.execute("f") == "whole"


@BOTH
@pytest.mark.parametrize(
    "body",
    ["c1", "90", "05", "930101c0", "9401cd270fc0c0", "940001c0c0", "9401"],
)
def test_what_is_not_the_protocol_ends_the_connection(serve: Serve, make: Make, body: str) -> None:
    def script(peer: Peer) -> None:
        peer.request("execute")
        peer.send_body(bytes.fromhex(body))
        peer.wait_end()

    with make(serve(greeted(script))) as client:
        error = error_of(client.execute, "f")
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.executed) == ("bad_reply", "maybe")
        assert not client.connected


@BOTH
@pytest.mark.parametrize("length", [0, 0x05000000])
def test_a_length_that_none_can_have_ends_the_connection(serve: Serve, make: Make, length: int) -> None:
    def script(peer: Peer) -> None:
        peer.request("execute")
        peer.sock.sendall(struct.pack(">I", length))
        peer.wait_end()

    with make(serve(greeted(script))) as client:
        assert error_of(client.execute, "f").code == "bad_reply"


# ---- connections


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


# ---- leases


def test_a_lease_is_checked_in_at_the_end_of_its_block(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, sent = peer.request("checkout")
        assert sent == {"type": "anonymous", "pool": "p", "timeout_ms": 1000, "ttl_ms": 5000}
        peer.answer(number, LEASE)
        number, sent = peer.request("execute")
        assert sent == {"target": "f", "args": {"pool": 1}, "lease": 7, "timeout_ms": 2000}
        peer.answer(number, "leased")
        number, sent = peer.request("checkin")
        assert sent == {"lease": 7}
        peer.answer(number, True)
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        with client.lease("p", timeout=1, ttl=5) as lease:
            assert (lease.id, lease.worker, lease.pid, lease.generation, lease.expires_ms) == (7, 3, 812, 1, 60000)
            assert lease.execute("f", pool=1, timeout=2) == "leased"


def test_an_async_lease_is_checked_in_when_its_task_is_cancelled(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        number, sent = peer.request("execute")
        assert sent["lease"] == 7
        peer.answer(peer.request("cancel")[0], True)
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "maybe"})
        number, sent = peer.request("checkin")
        assert sent == {"lease": 7}
        peer.answer(number, True)
        peer.wait_end()

    async def work(client: AsyncClient) -> None:
        async with client.lease() as lease:
            await lease.execute("f")

    async def use() -> None:
        async with AsyncClient(path) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work(client), 0.05)

    path = serve(greeted(script))
    run(use())


@pytest.mark.parametrize("code", ["lease_expired", "lease_not_found", None])
def test_a_lease_that_has_ended_by_itself_ends_its_block_in_peace(serve: Serve, code: str | None) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        number, _ = peer.request("checkin")
        if code is not None:
            peer.answer(number, error={"code": code, "message": "m", "executed": "never"})

    with Client(serve(greeted(script))) as client:
        with client.lease():
            pass


def test_another_failure_at_the_end_of_a_lease_is_told(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        peer.answer(peer.request("checkin")[0], error={"code": "internal", "message": "m", "executed": "maybe"})

    with Client(serve(greeted(script))) as client:
        with pytest.raises(PypoolError, match="internal"):
            with client.lease():
                pass


def test_an_answer_to_checkout_that_is_none_is_told(serve: Serve) -> None:
    with Client(serve(greeted(lambda peer: peer.answer(peer.request("checkout")[0], True)))) as client:
        assert error_of(client.checkout).code == "bad_reply"
