"""Channel: frames in any cut, both ways."""
from __future__ import annotations

import os
import socket
import threading
from typing import Callable, Iterator, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypool_worker.channel import BUFFER_SIZE, FRAME_MAX, HEADER, Channel
from pypool_worker.errors import ProtocolError


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def received(pieces: List[bytes]) -> List[bytes]:
    """The frames that come out, which must be the same in both ways to receive them."""
    frames = received_by(lambda channel: iter(channel.receive, None), pieces)
    assert received_by(taken_from_the_buffer, pieces) == frames
    return frames


def taken_from_the_buffer(channel: Channel) -> Iterator[memoryview]:
    """As a direct lease takes them."""
    begin = end = 0
    while True:
        if begin == end:
            begin, end = 0, channel.fill()
            if not end:
                return
        body = begin + HEADER
        rest = body + int.from_bytes(channel.buffer[begin:body], "big")
        if body < rest <= end:
            begin = rest
            yield channel.view[body:rest]
        else:
            frame, begin, end = channel.receive_rest(begin, end)
            yield frame


def received_by(receiver: Callable[[Channel], Iterator[memoryview]], pieces: List[bytes]) -> List[bytes]:
    ours, theirs = socket.socketpair()

    def write() -> None:
        for piece in pieces:
            theirs.sendall(piece)
        theirs.close()

    with ours:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            return [bytes(frame) for frame in receiver(Channel(ours.fileno()))]
        finally:
            ours.close()
            writer.join()


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_frames_cut_anywhere_arrive_whole_and_in_order(payloads: List[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)])]
    assert received(pieces) == payloads


@pytest.mark.parametrize("size", [BUFFER_SIZE - 5, BUFFER_SIZE - 4, BUFFER_SIZE - 3, BUFFER_SIZE, 3_000_000])
def test_frames_around_and_above_the_buffer_size_arrive_between_small_ones(size: int) -> None:
    payloads = [b"first", os.urandom(size), b"last"]
    assert received([b"".join(map(framed, payloads))]) == payloads


def test_fault_3_a_frame_dripped_byte_by_byte_arrives() -> None:
    assert received([bytes([byte]) for byte in framed(b"dripped")]) == [b"dripped"]


@pytest.mark.parametrize("length", [0, FRAME_MAX + 1, 0xFFFFFFFF])
def test_fault_1_and_2_lengths_that_cannot_be_are_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=str(length)):
        received([length.to_bytes(4, "big") + b"x"])


@pytest.mark.parametrize("size", [10, 200_000])
def test_fault_4_the_end_inside_a_frame_is_an_error(size: int) -> None:
    for kept in (1, 4, 5, size + 3):
        with pytest.raises(ProtocolError, match="ended inside"):
            received([framed(b"x" * size)[:kept]])


@pytest.mark.parametrize("size", [1, 64 * 1024, 64 * 1024 + 1, 5_000_000])
def test_send_writes_whole_frames_of_any_size(size: int) -> None:
    ours, theirs = socket.socketpair()
    payload, got = os.urandom(size), bytearray()
    with ours, theirs:
        writer = threading.Thread(target=Channel(ours.fileno()).send, args=(payload,))
        writer.start()
        while len(got) < size + 4:
            got += theirs.recv(1 << 20)
        writer.join()
    assert bytes(got) == framed(payload)


def test_stop_reading_delivers_what_came_before_and_leaves_the_way_out_open() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(framed(b"in hand"))
        channel = Channel(ours.fileno())
        channel.stop_reading()
        assert bytes(channel.receive() or b"") == b"in hand"
        assert channel.receive() is None
        channel.send(b"reply")
        assert theirs.recv(100) == framed(b"reply")


def test_one_that_is_cut_ends_both_ways_and_keeps_its_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours.fileno())
        channel.cut()
        channel.cut()
        assert channel.receive() is None and theirs.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            channel.send(b"reply")
        assert os.fstat(ours.fileno())
    channel.cut()  # somebody has closed it


@pytest.mark.parametrize("left", [framed(b"in hand") + framed(b"next"), framed(b"in hand") + b"\0", b"\0\0\0\7in h",
                                  framed(b"in hand") + (1 << 20).to_bytes(4, "big") + b"x" * 100_000])
def test_what_was_read_before_it_was_replaced_is_forgotten(left: bytes) -> None:
    ours, theirs = socket.socketpair()
    other, others = socket.socketpair()
    with ours, theirs, others:
        theirs.sendall(left)
        theirs.close()
        channel = Channel(ours.fileno())
        if len(left) > 9:
            assert bytes(channel.receive() or b"") == b"in hand"
        if len(left) != len(framed(b"in hand") + framed(b"next")):
            with pytest.raises(ProtocolError):
                channel.receive()
        other.setblocking(False)
        channel.replace(other.detach())
        assert os.get_blocking(ours.fileno()) and not os.get_inheritable(ours.fileno())
        others.sendall(framed(b"another"))
        assert bytes(channel.receive() or b"") == b"another" and channel.filled_ns == 0
        channel.send(b"reply")
        assert others.recv(100) == framed(b"reply")
        ours.close()
        assert others.recv(1) == b"", "no other descriptor is left of it"


def test_a_large_frame_shows_nothing_of_the_larger_one_before_it() -> None:
    frames = [bytes([n]) * size for n, size in enumerate((3 << 20, 1 << 20, 5 << 20, 2 << 20))]
    assert received([framed(frame) for frame in frames]) == frames


def test_a_frame_of_many_parts_arrives_whole_through_a_small_socket_buffer() -> None:
    parts = [b"head", bytes(range(256)) * 4096, b"", b"tail" * 50000]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        got = bytearray()
        writer = threading.Thread(target=Channel(ours.fileno()).send, args=parts)
        writer.start()
        while len(got) < 4 + sum(map(len, parts)):
            got += theirs.recv(1 << 16)
        writer.join()
    assert bytes(got) == framed(b"".join(parts))
