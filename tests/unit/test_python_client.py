"""The Python client, blocking and asynchronous, against a fake daemon: requests and replies."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import msgpack
import pytest
from pypool_client import ConnectionLost, PypoolError
from pypool_client import params

from tests.support.fake_daemon import Peer
from tests.support.python_client import BOTH, Make, Serve, error_of, greeted


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
                "idempotent": True,
            },
        ):
            number, sent = peer.request("execute")
            assert sent == expected
            peer.answer(number, "ok")

    with make(serve(greeted(script))) as client:
        assert client.execute("add", 2, 3) == "ok"
        assert client.execute("add", a=2, target=3) == "ok"
        assert client.execute("f") == "ok"
        options = {"pool": "p", "lease": 7, "timeout": 1.5, "queue_timeout": 0.0001, "meta": True,
                   "idempotent": True}
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
