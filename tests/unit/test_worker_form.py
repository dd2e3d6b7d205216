"""The form of a plain call on a direct lease: once it is known, each frame is answered as it was before."""
from __future__ import annotations

import socket
import threading
import tracemalloc
from typing import Any, List

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypool_worker.channel import HEADER, Channel
from pypool_worker.codec import load_codec
from pypool_worker.control import Init
from pypool_worker.direct import Direct
from pypool_worker.dump import Dump
from pypool_worker.errors import CallCancelled
from pypool_worker.form import Form
from pypool_worker.interrupt import Interrupt
from pypool_worker.place import Place
from pypool_worker.registry import Handler
from pypool_worker.targets import Targets

NEVER = memoryview(b"\xff" * 16).cast("Q")  # wanted: no call has that number
KNOWN = [[0, 1, "execute", [{"target": "echo", "args": [1]}]]] * 2  # what makes the form known


def echo(value: object = None, *more: object) -> object:
    if more:
        raise CallCancelled("its name is told")
    return value


def fail(*args: object) -> None:
    raise CallCancelled("its name is told")


def large(size: int) -> str:
    return "x" * size


def make_place(max_reply: int) -> Place:
    targets = Targets("app", [])
    targets.add([Handler("echo", echo, False), Handler("fail", fail, False), Handler("large", large, False)], "app")
    dump = Dump(1)  # is only written to where there is asyncio, and by signals
    return Place(load_codec(""), targets, Interrupt(NEVER), dump, Init({"app": "app", "max_reply": max_reply}))


@pytest.fixture(scope="module")
def place() -> Place:
    return make_place(1000)


@pytest.fixture
def roomy() -> Place:
    return make_place(0)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(HEADER, "big") + message


def answers(place: Place, sent: bytes) -> List[bytes]:
    """What a lease says to all this, one after the other."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        ours.shutdown(socket.SHUT_WR)
        direct = Direct(place, Channel(theirs.fileno()), 7)
        direct.serve()
        theirs.shutdown(socket.SHUT_WR)
        heard = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    found = []
    while heard:
        end = HEADER + int.from_bytes(heard[:HEADER], "big")
        found.append(heard[HEADER:end])
        heard = heard[end:]
    return found


def once_known(place: Place, *messages: bytes) -> List[bytes]:
    sent = b"".join(map(framed, [*map(msgpack.packb, KNOWN), *messages]))
    return answers(place, sent)[len(KNOWN):]


def assert_same(place: Place, *messages: bytes) -> List[bytes]:
    """In a lease that knows the form, and in one that does not."""
    known = once_known(place, *messages)
    assert known == answers(place, b"".join(map(framed, messages)))
    return known


def call(number: Any, target: str, *args: object) -> bytes:
    return bytes(msgpack.packb([0, number, "execute", [{"target": target, "args": args}]]))


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_each_id_comes_back(place: Place, number: int) -> None:
    for value in (None, "text", b"bytes", [1, [2]], {"a": 1.5}, -1):
        assert_same(place, call(number, "echo", value))
        assert msgpack.unpackb(once_known(place, call(number, "echo", value))[0]) == [1, number, None, value]


@pytest.mark.parametrize("number", [-1, -200, True, None, 1.0, "execute", b"x", [1], {}])
def test_what_is_no_id_is_refused(place: Place, number: Any) -> None:
    (said,) = assert_same(place, call(number, "echo", 1))
    kind, told, error, value = msgpack.unpackb(said)
    assert (kind, told, value) == (1, None, None) and error["code"] == "bad_request"


def test_an_id_that_is_packed_long_is_the_same_id(place: Place) -> None:
    message = call(5, "echo", 1).replace(b"\x94\x00\x05", b"\x94\x00\xcf" + (5).to_bytes(8, "big"))
    assert msgpack.unpackb(once_known(place, message)[0]) == [1, 5, None, 1]


@pytest.mark.parametrize("size", range(960, 1000))
def test_the_limit_of_a_reply_is_what_it_was_for_an_id_that_is_packed_long(place: Place, size: int) -> None:
    message = call(5, "echo", "x" * size).replace(b"\x94\x00\x05", b"\x94\x00\xcf" + (5).to_bytes(8, "big"))
    (said,) = once_known(place, message)
    (alone,) = answers(place, framed(message))
    assert msgpack.unpackb(said) == msgpack.unpackb(alone)


@pytest.mark.parametrize("params", [
    {"args": [2], "target": "echo"}, {"target": "echo", "args": []}, {"target": "echo", "args": None},
    {"target": "echo", "args": {"value": 3}}, {"target": "echo"}, {"target": "echo", "args": [4], "meta": False},
    {"target": "echo", "args": 5}, {"target": "echo", "args": [6, 7]}, {"target": "nothing", "args": [8]},
    {"target": "echo", "args": [b"x" * 1000]}, {"target": "echo", "args": [b"x" * 980]},
    {"target": "echo", "args": ["x" * 70000]}, {"target": "echo", "args": [{1: 2}]},
])
def test_all_else_is_answered_as_ever(place: Place, params: Any) -> None:
    assert_same(place, bytes(msgpack.packb([0, 9, "execute", [params]])))


def test_errors_tell_of_their_own_target(place: Place) -> None:
    """Also where another target was called in between, but too seldom to have the form."""
    said = once_known(place, call(2, "fail", "a"), call(3, "echo", "b"), call(4, "fail", "c"), call(5, "fail", "d"),
                      call(6, "echo", 1, 2), call(7, "fail", "e"))
    told = [msgpack.unpackb(one) for one in said]
    assert [one[1] for one in told] == [2, 3, 4, 5, 6, 7]
    assert [one[2] and one[2]["message"].split(":")[0] for one in told] == [
        "cancelled in fail", None, "cancelled in fail", "cancelled in fail", "cancelled in echo", "cancelled in fail"]


def test_a_frame_that_is_too_short_for_what_stands_in_it(place: Place) -> None:
    """Its begin and what follows it would be a call together."""
    whole = call(5, "echo", 1)
    for cut in range(1, len(whole)):
        sent = b"".join(map(framed, map(msgpack.packb, KNOWN))) + framed(whole[:cut]) + whole[cut:]
        said = answers(place, sent)[len(KNOWN):]
        assert msgpack.unpackb(said[0])[2]["code"] == "bad_msgpack", cut
        assert len(said) == 1


@pytest.mark.parametrize("depth", range(508, 514))
def test_a_reply_is_as_deep_as_before(place: Place, depth: int) -> None:
    nested = b"\x91" * (depth - 1) + b"\x90"
    message = call(3, "echo", None)
    assert_same(place, message[:-1] + nested)


def test_a_large_reply_is_there_once(roomy: Place) -> None:
    """As it was packed, and in no second copy."""
    size = 8 << 20
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(3):
            ours.sendall(framed(call(1, "large", size)))
        ours.shutdown(socket.SHUT_WR)
        reader = threading.Thread(target=lambda: all(iter(lambda: ours.recv(1 << 20), b"")))
        reader.start()
        tracemalloc.start()
        try:
            direct = Direct(roomy, Channel(theirs.fileno()), 7)
            direct.serve()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            theirs.shutdown(socket.SHUT_RDWR)
            reader.join()
    assert (direct.calls, direct.errors) == (3, 0)
    assert peak < 4.5 * size, "the value, the buffer of the packer, which has room for two, and what was packed"


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_frame_is_answered_the_same(place: Place, data: st.DataObject) -> None:
    """Calls of which some bytes were changed, put in or left out."""
    message = bytearray(call(data.draw(st.sampled_from([0, 127, 200, 70000, 1 << 40])),
                             data.draw(st.sampled_from(["echo", "fail", "other"])), *data.draw(st.lists(st.integers(-5, 1 << 40)))
                             if data.draw(st.booleans()) else [1]))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(message)))
        with_what = data.draw(st.binary(max_size=2))
        message[at:at + data.draw(st.integers(0, 2))] = with_what
    if message:
        assert_same(place, bytes(message))


def test_the_form_is_what_a_short_packer_makes(place: Place) -> None:
    for target in ("echo", "e" * 40, "é" * 200):
        form = Form(place.codec, target, Handler("echo", echo, False))
        assert call(5, target, 1) == b"\x94\x00\x05" + form.packed + b"\x91\x01"
        assert form.size == len(form.packed)
