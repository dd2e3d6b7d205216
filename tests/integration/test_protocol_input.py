"""Bytes that no honest client sends: faults 1 to 16 of docs/faults.md, over the real socket of a real daemon."""

from __future__ import annotations

import math
import re
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import CallError, Client, Framing, pack
from tests.support.daemon import BUILD, Daemon, pool
from tests.support.waiting import eventually
from tests.support.wire import Vector, read_vectors

FRAMINGS: list[Framing] = ["prefixed", "bare"]
KIB = 1024
MAX_FRAME = 65600 * KIB  # what the vectors were made for


def heap_slack() -> int:
    """How much a heap may grow that does not grow: a sanitizer frees later than it is told to."""
    return 4096 * KIB if b"__asan_init" in (BUILD / "pypoold").read_bytes() else 64 * KIB


Start = Callable[..., Daemon]


@pytest.fixture
def daemon(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 1)})


def memory(daemon: Daemon, key: str) -> int:
    """A line of /proc/PID/status, in bytes: VmData (what it asked for), VmHWM (the most it really had)."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    match = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None, text
    return int(match[1]) * KIB


def forget_peak(daemon: Daemon) -> int:
    """VmHWM starts again from what is there now; returns it."""
    Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")
    return memory(daemon, "VmHWM")


def calls(observer: Client, key: str) -> int:
    """One of the counters of status."""
    return int(observer.call("status")["calls"][key])


def refused(client: Client) -> CallError:
    """The error about what could not be read; the daemon must close after it."""
    error = client.wait_error(None)
    client.wait_closed()
    return error


def execute_frame(client: Client, target: str, *args: Any, number: int = 7) -> bytes:
    return client.frame(pack([0, number, "execute", [{"target": target, "args": list(args)}]]))


# ---- all refusals that the documentation shows


def check_vector(daemon: Daemon, vector: Vector) -> None:
    outcome, _, what = vector.what.partition(" ")
    with daemon.client(hello=False) as c:
        c.framing = "prefixed" if vector.data[0] <= 4 else "bare"
        c.send_bytes(vector.data)
        if outcome == "foreign":
            c.wait_closed()
            assert not c.order, f"{what}: answered a foreign protocol"
        elif outcome == "more":
            c.shutdown_write()
            c.wait_closed()
            assert not c.order, f"{what}: answered half a message"
        elif outcome.startswith("bad_request") or outcome.startswith("unknown"):
            reply = c.wait_any()
            assert CallError(reply.error).code == outcome, f"{what}: {reply}"
            assert str(reply.error).endswith("(executed: never)"), f"{what}: {reply}"
            assert c.call("ping") == "pong", f"{what}: the connection must live"
        else:
            assert refused(c).code == outcome, what


def test_every_refusal_of_the_vectors_is_what_the_daemon_answers(start_daemon: Start) -> None:
    vectors = read_vectors("refused")
    daemon = start_daemon({"default": pool("nasty", 1)}, max_frame=MAX_FRAME)
    for vector in vectors:
        check_vector(daemon, vector)
    assert len(vectors) > 40
    assert daemon.status()["calls"]["accepted"] == 0


# ---- frames


def test_fault_1_length_0_ends_that_connection_only(daemon: Daemon) -> None:
    with daemon.client() as other, daemon.client() as c:
        c.send_bytes(struct.pack(">I", 0))
        error = refused(c)
        assert (error.code, error.executed) == ("bad_frame", "never")
        assert "length 0" in error.message
        assert other.execute("echo", 1) == 1


def test_fault_2_too_long_a_frame_is_refused_from_its_header_alone(daemon: Daemon) -> None:
    def provoke() -> None:
        with daemon.client() as c:
            c.send_bytes(struct.pack(">I", MAX_FRAME + 1))
            error = refused(c)
            assert (error.code, error.executed) == ("too_large", "never")

    for _ in range(10):  # the heap grows in steps of 132 KiB: let it settle
        provoke()
    before = memory(daemon, "VmData")
    for _ in range(20):
        provoke()
    assert memory(daemon, "VmData") - before < heap_slack()


def test_fault_2_a_frame_of_exactly_max_frame_is_taken(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, max_frame=64 * KIB)
    with daemon.client() as c:
        around = len(pack([0, 1, "execute", [{"target": "echo", "args": [b"x" * 60000]}]])) - 60000
        number = c.new_id()
        body = pack([0, number, "execute", [{"target": "echo", "args": [b"x" * (64 * KIB - around)]}]])
        assert len(body) == 64 * KIB
        c.send_bytes(c.frame(body))
        assert len(c.wait(number).value()) == 64 * KIB - around
        c.send_bytes(struct.pack(">I", 64 * KIB + 1))
        assert refused(c).code == "too_large"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_3_a_frame_dripped_byte_by_byte_is_parsed(daemon: Daemon, framing: Framing) -> None:
    with daemon.client(framing=framing) as c:
        received = bytes_in(c)
        for byte in execute_frame(c, "echo", "dripped"):
            c.send_bytes(bytes([byte]))
            received += 1
        assert c.wait(7).value() == "dripped"
        assert bytes_in(c) > received


def bytes_in(client: Client) -> int:
    """What the daemon has read from this connection, as it says."""
    (own,) = [c for c in client.call("clients") if c["calls"] == 0]
    return int(own["bytes_in"])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_3_a_frame_that_is_not_finished_in_time_is_closed(start_daemon: Start, framing: Framing) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, frame_timeout="150ms")
    with daemon.client(framing=framing) as c, daemon.client(framing=framing) as idle:
        c.send_bytes(execute_frame(c, "echo", "never finished")[:-1])
        c.wait_closed(5)
        daemon.wait_log(r"client\.dropped .*unfinished")
        assert idle.call("ping") == "pong", "between messages a client may be silent for ever"
    assert daemon.status()["calls"]["accepted"] == 0


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_4_end_of_file_at_every_offset_dispatches_nothing(
    daemon: Daemon, framing: Framing, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with daemon.client(framing=framing, hello=False) as c:
        frame = execute_frame(c, "append_line", str(ledger), "ran")
    for end in range(len(frame)):
        with daemon.client(framing=framing, hello=False) as c:
            c.send_bytes(frame[:end])
            c.shutdown_write()
            c.wait_closed()
            assert not c.order
    eventually(lambda: int(daemon.status()["clients"]) == 1, "all of them have gone")
    assert daemon.status()["calls"]["accepted"] == 0
    assert not ledger.exists()
    with daemon.client(framing=framing) as c:
        c.send_bytes(frame)
        c.wait(7).value()
    assert ledger.read_text() == "ran\n", "the whole frame must do what its parts did not"


def test_fault_5_10000_frames_in_one_write_are_answered_while_others_move(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_queue=0)})
    with daemon.client() as flood, daemon.client() as before, daemon.client() as after:
        flood.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
        first = flood.new_id()
        frames = b"".join(execute_frame(flood, "echo", n, number=first + n) for n in range(10_000))
        daemon.signal(signal.SIGSTOP)  # so that all lies there at once; whose turn comes first is the kernel's business
        numbers = [before.start("status")]
        flood.sock.setblocking(False)
        assert flood.sock.send(frames) == len(frames), "one write"
        numbers.append(after.start("status"))
        daemon.signal(signal.SIGCONT)
        taken = [c.wait(n).value()["calls"]["accepted"] for c, n in zip((before, after), numbers)]
        assert max(taken) <= 200, "others had to wait for the flood"  # 64 a turn; in one read there are 400
        assert all(flood.wait(first + n, 60).value() == n for n in range(10_000))


# ---- MessagePack


def huge_array(framing: Framing) -> bytes:
    body = b"\x94\x00\x07\xa7execute" + b"\xdd\x10\x00\x00\x00"
    return struct.pack(">I", len(body)) + body if framing == "prefixed" else body


def nested_arrays(framing: Framing) -> bytes:
    body = b"\xdd\x10\x00\x00\x00" * 31
    return struct.pack(">I", len(body)) + body if framing == "prefixed" else body


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("make", [huge_array, nested_arrays], ids=["fault_6_flat", "fault_7_nested_31_deep"])
def test_headers_that_claim_2_28_elements_cost_nothing(
    daemon: Daemon, framing: Framing, make: Callable[[Framing], bytes]
) -> None:
    def provoke() -> None:
        with daemon.client(framing=framing, hello=False) as c:
            c.send_bytes(make(framing))
            # bare: it could still come, but would be over max_frame; prefixed: it cannot
            assert refused(c).code == ("bad_msgpack" if framing == "prefixed" else "too_large")

    for _ in range(10):  # the heap grows in steps of 132 KiB: let it settle
        provoke()
    before = memory(daemon, "VmData")
    for _ in range(20):
        provoke()
    assert memory(daemon, "VmData") - before < heap_slack()


def nested(depth: int) -> bytes:
    return b"\x91" * (depth - 1) + b"\xc0"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_8_nesting_beyond_the_cap_is_refused_by_the_word_depth(daemon: Daemon, framing: Framing) -> None:
    with daemon.client(framing=framing) as c:
        # the message, its params, the map and args are four levels
        c.send_bytes(c.frame(b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x91" + nested(600)))
        error = refused(c)
        assert error.code == "bad_msgpack" and "dep" in error.message


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_8_data_100_deep_passes(daemon: Daemon, framing: Framing) -> None:
    value: Any = None
    for _ in range(100):
        value = [value]
    with daemon.client(framing=framing) as c:
        assert c.execute("echo", value) == value


def test_fault_9_millions_of_tiny_elements_are_forwarded_and_never_decoded(daemon: Daemon) -> None:
    count = 2_000_000
    args = b"\x91\xdd" + struct.pack(">I", count) + b"\xc0" * count
    with daemon.client() as c:
        before = forget_peak(daemon)
        c.send_bytes(c.frame(b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args" + args))
        assert c.wait(7).value() == [None] * count
        # the request and the reply, 2 MB each; decoded it would be 16 or more bytes for each element
        assert memory(daemon, "VmHWM") - before < 5 * count


# what is wrong, and at which byte
BAD = {
    "0xc1": (b"\x94\x00\x07\xa4ping\x91\x81\xa1x\xc1", 12),
    "a truncated uint64": (b"\x94\x00\xcf\x00\x00", 2),
    "a truncated str8": (b"\x94\x00\x07\xd9\x20ping", 3),
    "a truncated ext": (b"\x94\x00\x07\xa4ping\x91\xc9\x00", 9),
    "an object after the message": (b"\x94\x00\x07\xa4ping\x90\xc0", 9),
    "an element missing": (b"\x94\x00\x07\xa4ping", 3),
}


@pytest.mark.parametrize("what", BAD)
def test_fault_10_what_is_no_messagepack_is_refused_and_the_connection_closed(daemon: Daemon, what: str) -> None:
    with daemon.client() as other, daemon.client() as c:
        data, place = BAD[what]
        c.send_bytes(c.frame(data))
        error = refused(c)
        assert (error.code, error.executed) == ("bad_msgpack", "never")
        assert error.message.endswith(f"(byte {place} of the message)"), error.message
        assert other.call("ping") == "pong"


# ---- messages

WRONG: dict[str, Any] = {
    "no params": [0, 7, "ping"],
    "five elements": [0, 7, "ping", [], None],
    "params as a map": [0, 7, "execute", {"target": "echo"}],
    "two params": [0, 7, "execute", [{"target": "echo"}, {}]],
    "method as a number": [0, 7, 5, []],
    "target as a number": [0, 7, "execute", [{"target": 5}]],
    "no target": [0, 7, "execute", [{}]],
    "args as a text": [0, 7, "execute", [{"target": "echo", "args": "abc"}]],
    "unknown key": [0, 7, "execute", [{"target": "echo", "tiemout_ms": 5}]],
    "key as a number": [0, 7, "execute", [{5: "echo"}]],
    "pool as a list": [0, 7, "execute", [{"target": "echo", "pool": []}]],
    "cancel of nothing": [0, 7, "cancel", [{}]],
    "checkin of nothing": [0, 7, "checkin", [{}]],
}
DUPLICATE_KEY = b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa6target\xa3pid"


def test_fault_11_a_wrong_shape_is_answered_with_its_id_and_the_connection_lives(daemon: Daemon) -> None:
    with daemon.client() as c:
        for what, body in [*((what, pack(m)) for what, m in WRONG.items()), ("a key twice", DUPLICATE_KEY)]:
            c.send_bytes(c.frame(body))
            error = c.wait_error(7)
            assert (error.code, error.executed) == ("bad_request", "never"), what
        assert c.execute("echo", 1) == 1


def test_fault_11_an_unknown_key_is_answered_with_those_that_exist(daemon: Daemon) -> None:
    with daemon.client() as c:
        error = c.fail("execute", target="echo", tiemout_ms=5)
        assert "tiemout_ms" in error.message and "timeout_ms" in error.message.partition("accepted")[2]


def test_fault_11_a_message_without_a_readable_id_is_answered_without_one(daemon: Daemon) -> None:
    with daemon.client() as c:
        for message in ([0, -1, "ping", []], [0, "a", "ping", []], [3, 7, "ping", []], {"method": "ping"}, [], 5):
            c.send(message)
            reply = c.wait_any()
            assert CallError(reply.error).code == "bad_request", message
            assert reply.id in (None, 7), message
        assert c.call("ping") == "pong"


def test_an_unknown_notification_is_ignored(daemon: Daemon) -> None:
    with daemon.client() as c:
        c.notify("nobody.knows", x=1)
        assert c.call("ping") == "pong"
        assert not c.notifications


def test_fault_12_an_id_in_flight_twice_is_refused_and_the_first_call_undisturbed(daemon: Daemon) -> None:
    with daemon.client() as c, daemon.client() as other:
        c.send_bytes(execute_frame(c, "sleep", 0.3, number=1 << 40))
        c.send_bytes(execute_frame(c, "echo", "second", number=1 << 40))
        error = c.wait_error(1 << 40)
        assert (error.code, error.executed) == ("duplicate_id", "never")
        other.send_bytes(execute_frame(other, "echo", "other", number=1 << 40))
        assert c.wait(1 << 40).value() == 0.3
        assert other.wait(1 << 40).value() == "other", "ids are a connection's own"
        c.send_bytes(execute_frame(c, "echo", "again", number=1 << 40))
        assert c.wait(1 << 40).value() == "again", "an answered id is free again"


def test_the_largest_id_comes_back_as_it_was(daemon: Daemon) -> None:
    with daemon.client() as c:
        for number in (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1):
            c.send_bytes(execute_frame(c, "echo", number, number=number))
            assert c.wait(number).value() == number


NAMES = {
    "NUL": b"a\x00b",
    "not UTF-8": b"\xff\xfe",
    "overlong UTF-8": b"\xc0\xaf",
    "ANSI": b"\x1b[31mred\x1b[0m",
    "newline": b"echo\ninfo daemon.stop code=0",
    "C1 control": b"a\xc2\x9b1m",
    "too long": b"x" * 256,
    "empty": b"",
}
CONTROL = re.compile(rb"[^\x20-\x7e\n]")


@pytest.mark.parametrize("kind", ["str", "bin"])
def test_fault_13_names_with_control_characters_are_refused_and_escaped(daemon: Daemon, kind: str) -> None:
    with daemon.client() as c:
        for key in ("target", "pool", "traceparent"):
            for what, name in NAMES.items():
                encoded = (b"\xda" if kind == "str" else b"\xc5") + struct.pack(">H", len(name)) + name
                head = b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo" if key != "target" else (
                    b"\x94\x00\x07\xa7execute\x91\x81"
                )
                c.send_bytes(c.frame(head + pack(key) + encoded))
                error = c.wait_error(7)
                assert (error.code, error.executed) == ("bad_request", "never"), (key, what)
                assert key in error.message and error.message.isprintable(), (key, what, error.message)
        for name in NAMES.values():
            c.send_bytes(c.frame(b"\x94\x00\x07\xda" + struct.pack(">H", len(name)) + name + b"\x90"))
            error = c.wait_error(7)
            assert error.code in ("unknown_method", "bad_request") and error.message.isprintable()
    assert not CONTROL.search(daemon.log_file.read_bytes())


def test_fault_14_an_unknown_method_is_answered_with_those_that_exist(daemon: Daemon) -> None:
    with daemon.client() as c:
        error = c.fail("exec", target="echo")
        assert (error.code, error.executed) == ("unknown_method", "never")
        assert '"exec"' in error.message and "execute" in error.message.partition("there are")[2]


def test_fault_14_an_unknown_protocol_version_is_answered_with_the_one_that_exists(daemon: Daemon) -> None:
    with daemon.client(hello=False) as c:
        versions: list[dict[str, int]] = [{"protocol": 2}, {"protocol": 0}, {}]
        for version in versions:
            error = c.fail("hello", **version)
            assert error.code == "bad_request" and "protocol: 1" in error.message
            assert isinstance(error.raw, str), "it has not said a valid hello yet"
        assert c.call("hello", protocol=1)["protocol"] == 1


TIMEOUTS = [-1, 0, 2**31 + 1, 2**63, 2**64 - 1, -(2**63), 1.5, math.nan, math.inf, "5", [5], True, b"5"]


@pytest.mark.parametrize("key", ["timeout_ms", "queue_timeout_ms"])
def test_fault_15_timeouts_out_of_range_are_refused(daemon: Daemon, key: str) -> None:
    with daemon.client() as c:
        for value in TIMEOUTS:
            error = c.fail("execute", **{"target": "echo", key: value})
            assert (error.code, error.executed) == ("bad_request", "never"), value
            assert key in error.message, error.message
        assert c.call("execute", **{"target": "echo", "args": [1], key: 2**31}) == 1


def test_fault_15_the_longest_timeout_does_not_overflow_a_timer(daemon: Daemon) -> None:
    with daemon.client() as c:
        options: dict[str, Any] = {"timeout_ms": 2**31, "queue_timeout_ms": 2**31}
        numbers = [c.start_execute("sleep", 0.1, **options), c.start_execute("echo", 1, **options)]
        assert [c.wait(n).value() for n in numbers] == [0.1, 1]
        lease = c.call("checkout", type="anonymous", ttl_ms=2**31, timeout_ms=2**31)
        assert lease["expires_ms"] == 2**31
        assert c.execute("echo", 2, lease=lease["lease"]) == 2
        assert c.call("checkin", lease=lease["lease"]) is True


# ---- gone before its turn


@pytest.fixture
def held(daemon: Daemon) -> Iterator[Callable[[], None]]:
    """The only worker is leased away; the value gives it back."""
    with daemon.client() as c:
        lease = c.call("checkout", type="anonymous")["lease"]

        def give_back() -> None:
            c.call("checkin", lease=lease)

        yield give_back


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_16_calls_of_a_client_that_went_while_queued_are_never_executed(
    daemon: Daemon, held: Callable[[], None], framing: Framing, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with daemon.client() as observer:
        with daemon.client(framing=framing) as gone:
            for n in range(20):
                gone.start_execute("append_line", str(ledger), f"gone {n}")
            eventually(lambda: calls(observer, "queued") == 20, "all wait")
        eventually(lambda: calls(observer, "queued") == 0, "all are released")
        assert calls(observer, "abandoned") == 20
        held()
        observer.execute("append_line", str(ledger), "stayed")
    assert ledger.read_text() == "stayed\n"


def test_fault_16_of_a_client_that_said_no_more_requests_queued_calls_still_run(
    daemon: Daemon, held: Callable[[], None]
) -> None:
    with daemon.client() as c:
        numbers = [c.start_execute("echo", n) for n in range(5)]
        c.shutdown_write()
        eventually(lambda: int(daemon.status()["calls"]["queued"]) == 5, "all wait")
        held()
        assert [c.wait(n).value() for n in numbers] == list(range(5))
        c.wait_closed()
