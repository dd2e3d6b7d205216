"""Direct leases in a real worker: the socket comes by control, calls come over it, nothing of it is left at the end."""
from __future__ import annotations

import os
import pathlib
import select
import socket
import time
from typing import Any, Dict, Iterator, List

import msgpack
import pytest

from tests.support.worker_harness import CANCELLED, DEADLINE, DirectClient, WorkerHarness

APP = """
import os, signal, sys, threading, time
from pypool_worker import CallCancelled, DeadlineExceeded, current, expose

@expose
def echo(value=None, **more): return value

@expose
def look():
    ctx = current()
    return [ctx.call_id, ctx.deadline, ctx.remaining(), ctx.traceparent]

@expose
def session(): return dict(current().session)

@expose
def sleep(seconds): time.sleep(seconds)

@expose
def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass

@expose
def swallow(seconds):
    try:
        time.sleep(seconds)
    except BaseException as exc:
        return type(exc).__name__

@expose
def fail(): raise LookupError("no such order")

@expose
def misfit(): return {"a": [1, {2}]}

@expose
def big(n): return b"x" * n

@expose
def many(n): return ["x"] * n

@expose
def say(text): print(text, end="")

@expose
def fork_and_stay():
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(told, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    return pid

@expose
def fork_and_return():
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "from the child"

@expose
def sockets():
    return sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
                  and os.readlink(f"/proc/self/fd/{fd}").startswith("socket") and int(fd) > 6)

@expose
def inheritable(fd): return os.get_inheritable(fd)

@expose
def close_it():
    for fd in sockets(): os.close(fd)

RANG = []
@expose
def with_alarms():
    signal.signal(signal.SIGALRM, lambda *_: RANG.append(1))
    signal.setitimer(signal.ITIMER_REAL, 30, 40)

@expose
def alarms():
    return [signal.getsignal(signal.SIGALRM) is signal.SIG_DFL, list(signal.getitimer(signal.ITIMER_REAL))]

@expose
def uses_asyncio():
    import asyncio
    return asyncio.run(asyncio.sleep(0, "done"))

class Thing(list): pass
refs = []
@expose
def make():
    import weakref
    thing = Thing()
    refs.append(weakref.ref(thing))
    return thing
@expose
def alive(): return sum(ref() is not None for ref in refs)
"""


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[WorkerHarness]:
    (tmp_path / "app.py").write_text(APP)
    with WorkerHarness("app", path=[str(tmp_path)], max_reply=1_000_000) as fresh:
        fresh.start()
        yield fresh


@pytest.fixture
def client(worker: WorkerHarness) -> Iterator[DirectClient]:
    with worker.direct() as leased:
        yield leased


def over(worker: WorkerHarness, client: DirectClient, calls: int, errors: int) -> None:
    """Ends the lease. The worker has answered so many, keeps nothing of it and takes calls as before."""
    client.sock.close()
    reply = worker.receive()
    assert (reply.call, reply.error, reply.value) == (client.call_number, None, {"calls": calls, "errors": errors})
    assert reply.meta["run_us"] > 0
    assert worker.call("sockets").value == []
    assert worker.call("echo", 1).value == 1


VALUES: List[Any] = [None, True, -1, 2 ** 64 - 1, 1.5, "ü", b"\x00\xff", [], {}, [[1], {"a": {}}], {1: 2}, "x" * 70_000,
                     b"y" * 70_000, b"z" * 900_000, ["x"] * 100_000]


def test_values_of_all_kinds_and_sizes_come_back_as_they_went(worker: WorkerHarness, client: DirectClient) -> None:
    for value in VALUES:
        assert client.call("echo", value) == value
    client.request("echo", {"value": 3})
    assert client.receive()[3] == 3
    client.request("echo")
    assert client.receive()[2:] == [None, None]
    over(worker, client, len(VALUES) + 2, 0)


def test_the_reply_is_that_of_the_protocol_byte_by_byte(client: DirectClient) -> None:
    client.sock.sendall(b"\x00\x00\x00\x20\x94\x00\x03\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x91\x05")
    assert client.sock.recv(100) == b"\x00\x00\x00\x05\x94\x01\x03\xc0\x05"


@pytest.mark.parametrize("number", [0, 127, 128, 2 ** 16, 2 ** 32, 2 ** 64 - 1])
def test_any_id_comes_back(client: DirectClient, number: int) -> None:
    client.send_raw(msgpack.packb([0, number, "execute", [{"target": "echo", "args": [1]}]]))
    assert client.receive() == [1, number, None, 1]


def test_pipelined_calls_are_answered_in_order(worker: WorkerHarness, client: DirectClient) -> None:
    for number in range(20):
        for again in range(50):
            client.request("echo", ["x" * (number * again)])
        assert [len(client.receive()[3]) for _ in range(50)] == [number * again for again in range(50)]
    over(worker, client, 1000, 0)


def test_the_first_of_pipelined_calls_is_answered_while_the_second_runs(worker: WorkerHarness,
                                                                        client: DirectClient) -> None:
    one, two = (msgpack.packb([0, number, "execute", [{"target": target, "args": [60]}]])
                for number, target in ((1, "echo"), (2, "sleep")))
    client.sock.sendall(b"".join(len(body).to_bytes(4, "big") + body for body in (one, two)))
    assert client.receive() == [1, 1, None, 60]
    worker.wait_for_frame("sleep")


def test_names_may_be_bin_and_nothing_may_stand_for_no_params(client: DirectClient) -> None:
    client.send_raw(msgpack.packb([0, 1, b"execute", [{b"target": b"echo", b"args": [1]}]]))
    assert client.receive()[3] == 1
    nothing: List[Any] = [[], None, [None], [{}], [[]]]
    for params in nothing:
        client.send_raw(msgpack.packb([0, 2, "ping", params]))
        assert client.receive() == [1, 2, None, "pong"]


def test_notifications_are_ignored(client: DirectClient) -> None:
    for message in ([2, "event", []], [2], [2, 5, 6, 7]):
        client.send_raw(msgpack.packb(message))
    assert client.call("echo", 1) == 1


def test_meta_comes_on_demand(worker: WorkerHarness, client: DirectClient) -> None:
    result = client.call("echo", 1, meta=True)
    assert result["value"] == 1
    meta = result["meta"]
    assert (meta["worker"], meta["pid"], meta["generation"], meta["attempts"]) == (1, worker.pid, 1, 1)
    assert 0 <= meta["run_us"] < 10_000_000 and meta["queue_us"] == 0
    assert client.call("echo", 1, meta=False) == 1


def test_the_context_is_that_of_the_lease_and_of_the_call(worker: WorkerHarness, client: DirectClient) -> None:
    assert client.call("look") == [client.call_number, None, None, None]
    number, deadline, remaining, trace = client.call("look", timeout_ms=60_000, traceparent="00-aa-bb-01")
    assert (number, trace) == (client.call_number, "00-aa-bb-01")
    assert 0 < deadline - time.monotonic() < 60 and 50 < remaining <= 60
    assert client.call("look") == [client.call_number, None, None, None]


def test_session_values_are_not_to_be_had(client: DirectClient) -> None:
    error = client.error("session")
    assert error["code"] == "app_error" and "session values are not to be had in direct calls" in error["message"]


# Errors

def test_errors_are_maps_with_executed(worker: WorkerHarness, client: DirectClient) -> None:
    told = [client.error("fail"), client.error("misfit"), client.error("many", 1_000_000),
            client.error("big", 1_000_001), client.error("echo", 1, 2, 3), client.error("nothing"),
            client.error("echo", timeout_ms=0)]
    assert [(e["code"], e["executed"], e["worker"]) for e in told] == [
        ("app_error", "yes", 1), ("unserializable", "yes", 1), ("too_large", "yes", 1), ("too_large", "yes", 1),
        ("app_error", "yes", 1), ("unknown_target", "never", 1), ("bad_request", "never", 1)]
    assert told[0]["message"].startswith("LookupError: no such order, app.py line ")
    assert told[0]["cause"]["type"] == "LookupError" and "direct.py" not in told[0]["cause"]["traceback"]
    assert told[1]["message"].startswith('result["a"][1] is a set') and told[1]["cause"]["file"].endswith("/app.py")
    assert "1000000" in told[2]["message"] and "app.py line" in told[4]["message"]
    over(worker, client, 7, 7)


def test_an_error_of_a_call_without_arguments_is_told_as_of_any_other(client: DirectClient) -> None:
    client.request("fail")
    error = client.receive()[2]
    assert error["message"].startswith("LookupError: no such order, app.py line ") and "KeyError" not in str(error)


@pytest.mark.parametrize("fields,words", [
    ({"target": "echo", "session": "s"}, "takes no key 'session'"), ({"target": "echo", "lease": 1}, "no key 'lease'"),
    ({"target": "echo", "pool": "p"}, "no key 'pool'"), ({"target": "echo", "x": 1}, "no key 'x'"),
    ({"args": [1]}, "target must be text"), ({"target": 5}, "target must be text"), ({"target": ""}, "1 to 255 bytes"),
    ({"target": "x" * 256}, "1 to 255 bytes"), ({"target": "echo", "args": 5}, "args must be an array"),
    ({"target": "echo", "args": {1: 2}}, "keyword must be text"), ({"target": "echo", "meta": 1}, "meta must be true"),
    ({"target": "echo", "timeout_ms": "1"}, "timeout_ms must be an integer from 1"),
    ({"target": "echo", "timeout_ms": 2 ** 31 + 1}, "to 2147483648"),
    ({"target": "echo", "timeout_ms": True}, "integer"),
    ({"target": "echo", "traceparent": 5}, "traceparent must be text")])
def test_fault_11_params_of_a_wrong_kind_are_a_bad_request(client: DirectClient, fields: Dict[str, Any],
                                                           words: str) -> None:
    client.send_raw(msgpack.packb([0, 5, "execute", [fields]]))
    _, number, error, result = client.receive()
    assert (number, error["code"], error["executed"], result) == (5, "bad_request", "never", None)
    assert words in error["message"]
    assert client.call("echo", 1) == 1


@pytest.mark.parametrize("message,number", [
    (5, None), ([], None), (["execute"], None), ([0], None), ([0, -1, "execute", []], None),
    ([0, "1", "ping", []], None), ([0, 3, "ping"], 3), ([0, 3, "ping", [], 5], 3), ([0, 3, 5, []], 3),
    ([0, 3, "ping", 5], 3),
    ([0, 3, "ping", [1]], 3),
    ([0, 3, "ping", [{}, {}]], 3), ([0, 3, "ping", [{"x": 1}]], 3), ([1, 3, None, 5], 3), ([3, 3, "ping", []], 3),
    ([False, 3, "execute", [{"target": "echo", "args": []}]], 3), ([0, True, "ping", []], None),
    ([0, 3, b"\xff", []], 3), ([0, 3, "execute", [{b"\xff": 1}]], 3), ([0, 3, "execute", {"target": "echo"}], 3)])
def test_fault_11_messages_of_a_wrong_shape_are_a_bad_request_and_no_end(client: DirectClient, message: Any,
                                                                         number: Any) -> None:
    client.send_raw(msgpack.packb(message))
    _, answered, error, _ = client.receive()
    assert (answered, error["code"], error["executed"]) == (number, "bad_request", "never")
    assert client.call("echo", 1) == 1


def test_unknown_methods_are_told_which_there_are(client: DirectClient) -> None:
    client.send_raw(msgpack.packb([0, 5, "checkin", [{"lease": 1}]]))
    _, number, error, _ = client.receive()
    assert (number, error["code"], error["executed"]) == (5, "unknown_method", "never")
    assert "there are: execute, ping" in error["message"]


@pytest.mark.parametrize("args", [b"\x91\xa2\xff\xfe", b"\x81\x91\x01\x02"])
def test_arguments_that_python_cannot_hold_are_a_bad_request(client: DirectClient, args: bytes) -> None:
    client.send_raw(b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args" + args)
    _, number, error, _ = client.receive()
    assert (number, error["code"]) == (7, "bad_request") and "arguments cannot be read" in error["message"]
    assert client.call("echo", 1) == 1


@pytest.mark.parametrize("sent,code", [
    (b"\x00\x00\x00\x00", "bad_frame"), (b"\xff\xff\xff\xff", "too_large"), (b"\x05\x00\x00\x00", "too_large"),
    (b"\x00\x00\x00\x01\xc1", "bad_msgpack"), (b"\x00\x00\x00\x03\x94\x00\x01", "bad_msgpack"),
    (b"\x00\x00\x00\x02\x90\x90", "bad_msgpack"), (b"\x00\x00\x08\x00" + b"\x91" * 2047 + b"\xc0", "bad_msgpack")])
def test_a_frame_that_cannot_be_read_is_answered_and_ends_the_connection(worker: WorkerHarness, client: DirectClient,
                                                                         sent: bytes, code: str) -> None:
    assert client.call("echo", 1) == 1
    client.sock.sendall(sent + b"\x00\x00\x00\x01\xc0")
    _, number, error, result = client.receive()
    assert (number, error["code"], error["executed"], result) == (None, code, "never", None)
    try:
        assert client.receive() == []
    except ConnectionResetError:
        pass  # what stood behind the bad frame was not read
    over(worker, client, 1, 0)


# The end of a lease

@pytest.mark.parametrize("sent", [b"", b"\x00\x00", b"\x00\x00\x00\x05", b"\x00\x00\x00\x05\x94\x00"])
def test_the_end_of_the_connection_is_the_end_of_the_lease(worker: WorkerHarness, client: DirectClient,
                                                           sent: bytes) -> None:
    client.sock.sendall(sent)
    over(worker, client, 0, 0)


def test_a_client_that_goes_without_reading_its_replies_ends_it(worker: WorkerHarness, client: DirectClient) -> None:
    for _ in range(8):
        client.request("big", [500_000])
    worker.wait_until_blocked("send")
    client.sock.close()
    reply = worker.receive()
    assert reply.error is None and 1 <= reply.value["calls"] <= 8
    assert worker.call("sockets").value == []


def test_leases_follow_one_another_and_share_nothing(worker: WorkerHarness) -> None:
    for lease in range(1, 20):
        with worker.direct(lease) as client:
            assert client.call("echo", lease) == lease
            client.sock.sendall(b"\x00\x00\x00\x05\x94")
        assert worker.receive().value == {"calls": 1, "errors": 0}
    assert worker.call("sockets").value == []


def test_the_socket_is_not_inherited_and_closed_in_forked_children(worker: WorkerHarness, client: DirectClient) -> None:
    (fd,) = client.call("sockets")
    assert client.call("inheritable", fd) is False
    child = client.call("fork_and_stay")
    try:
        sockets = [os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")]
        assert not [name for name in sockets if name.startswith("socket")]
        over(worker, client, 3, 0)
    finally:
        os.kill(child, 9)


def test_a_forked_child_that_comes_back_cannot_answer(worker: WorkerHarness, client: DirectClient) -> None:
    assert client.call("fork_and_return") == 1
    worker.wait_for_output("stderr", "must end with os._exit")
    over(worker, client, 1, 0)


def test_whoever_holds_a_copy_of_the_socket_is_cut_off_at_the_end(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker.send_fds("channel", {"lease": 5}, [theirs.fileno()])
        worker.send_raw(msgpack.packb([0, 77, "direct", [{"lease": 5}]]))
        ours.sendall(b"\x00\x00\x00\x00")
        assert worker.receive().value == {"calls": 0, "errors": 0}
        assert len(ours.recv(1000)) > 4 and ours.recv(1000) == b"", "although a copy of its end is open here"


def test_a_handler_that_closes_the_socket_ends_the_lease(worker: WorkerHarness, client: DirectClient) -> None:
    client.request("close_it", [])
    reply = worker.receive()
    assert reply.value == {"calls": 1, "errors": 0}
    assert worker.call("echo", 1).value == 1


def test_output_without_a_newline_is_out_at_the_end_of_the_lease(worker: WorkerHarness, client: DirectClient) -> None:
    client.call("say", "half a line")
    over(worker, client, 1, 0)
    worker.wait_for_output("stdout", "half a line")


def test_a_dump_during_a_lease_ends_as_ever_also_after_asyncio(worker: WorkerHarness, client: DirectClient) -> None:
    assert client.call("uses_asyncio") == "done"
    client.request("sleep", [60])
    worker.wait_for_frame("sleep")
    assert worker.dump()[0].endswith("\x0c")


def test_nothing_of_a_call_is_kept_while_waiting_for_the_next(client: DirectClient) -> None:
    for _ in range(3):  # by the third its form is known
        client.call("make")
    assert client.call("alive") == 0


def test_pings_of_control_are_answered_during_a_lease(worker: WorkerHarness, client: DirectClient) -> None:
    assert client.call("echo", 1) == 1
    worker.send_control("ping", {"seq": 3})
    assert worker.expect("pong") == {"seq": 3}


def test_stop_during_a_lease_waits_for_its_end(worker: WorkerHarness, client: DirectClient) -> None:
    worker.send_control("stop", {})
    worker.send_control("ping", {"seq": 1})
    worker.expect("pong")
    assert client.call("echo", 1) == 1
    client.sock.close()
    assert worker.receive().value == {"calls": 1, "errors": 0}
    assert worker.wait() == 0


# Deadlines and interrupts

def test_a_timeout_of_the_call_is_raised_in_the_handler(worker: WorkerHarness, client: DirectClient) -> None:
    began = time.monotonic()
    error = client.error("sleep", 60, timeout_ms=300)
    assert (error["code"], error["executed"]) == ("deadline_exceeded", "yes")
    assert error["message"].startswith("deadline exceeded in sleep: app.py line ")
    assert 0.3 <= time.monotonic() - began < 10
    assert client.call("swallow", 60, timeout_ms=300) == "DeadlineExceeded"
    assert client.call("swallow", 0, timeout_ms=60_000) is None
    over(worker, client, 3, 1)


TIMEOUTS: List[Dict[str, int]] = [{}, {"timeout_ms": 100}, {"timeout_ms": 60_000}]


def test_a_timeout_counts_from_the_reading_of_the_frame(client: DirectClient) -> None:
    frames = [msgpack.packb([0, n, "execute", [{"target": "sleep", "args": [0.4], **more}]])
              for n, more in enumerate(TIMEOUTS)]
    client.sock.sendall(b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames))
    replies = [client.receive() for _ in range(3)]
    assert [reply[2] and (reply[2]["code"], reply[2]["executed"]) for reply in replies] == [
        None, ("deadline_exceeded", "never"), None]


def test_the_applications_own_alarm_is_given_back(worker: WorkerHarness, client: DirectClient) -> None:
    assert client.call("alarms") == [True, [0.0, 0.0]]
    client.call("swallow", 0, timeout_ms=10_000)
    assert client.call("alarms") == [True, [0.0, 0.0]]
    client.call("with_alarms")
    client.error("sleep", 60, timeout_ms=20)
    default, (delay, interval) = client.call("alarms")
    assert not default and 20 < delay < 30 and interval == 40


def test_no_deadline_hits_the_next_call(client: DirectClient) -> None:
    codes = set()
    for number in range(300):
        client.request("busy", [0.001], timeout_ms=1)
        error = client.receive()[2]
        codes.add(error and error["code"])
        assert client.call("echo", number) == number
    assert "deadline_exceeded" in codes and codes <= {None, "deadline_exceeded"}


@pytest.mark.parametrize("reason,code", [(CANCELLED, "cancelled"), (DEADLINE, "deadline_exceeded")])
def test_the_daemon_interrupts_by_the_number_of_the_direct_call(worker: WorkerHarness, client: DirectClient,
                                                                reason: int, code: str) -> None:
    client.request("sleep", [60])
    client.request("echo", [1])
    worker.wait_for_frame("sleep")
    worker.interrupt(client.call_number, reason)
    first, second = client.receive(), client.receive()
    assert (first[2]["code"], first[2]["executed"]) == (code, "yes")
    assert (second[2]["code"], second[2]["executed"]) == (code, "never"), "the whole lease is meant"
    over(worker, client, 2, 2)


def test_an_interrupt_for_another_call_hits_nobody(worker: WorkerHarness, client: DirectClient) -> None:
    client.request("sleep", [1.0])
    worker.wait_for_frame("sleep")
    worker.interrupt(client.call_number + 1, CANCELLED)
    assert client.receive()[2] is None


# The packet that brings the socket

@pytest.mark.parametrize("count", [0, 2, 4, 5, 20])
def test_a_channel_without_exactly_one_descriptor_ends_the_worker(worker: WorkerHarness, count: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        worker.send_fds("channel", {"lease": 1}, [theirs.fileno()] * count)
        theirs.close()
        assert worker.wait() == 1
        if count:
            assert ours.recv(1) == b""
    assert "descriptors in place of one" in worker.stderr()


def test_descriptors_that_nobody_expects_are_closed(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        for count in (1, 3, 9):
            worker.send_fds("ping", {"seq": count}, [theirs.fileno()] * count)
            assert worker.expect("pong") == {"seq": count}
        theirs.close()
        worker.fence()  # a packet's descriptors are closed after its answer was sent
        assert worker.call("sockets").value == []
        assert ours.recv(1) == b""


def test_a_socket_that_nobody_came_for_is_closed_when_the_next_comes(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        worker.send_fds("channel", {"lease": 1}, [theirs.fileno()])
        theirs.close()
        with worker.direct(2) as client:
            assert client.call("echo", 1) == 1
            assert ours.recv(1) == b""
        assert worker.receive().value == {"calls": 1, "errors": 0}


def test_the_call_may_come_before_its_socket(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    worker.send_raw(msgpack.packb([0, 9, "direct", [{"lease": 4}]]))
    worker.wait_until_blocked("take")
    worker.send_fds("channel", {"lease": 4}, [theirs.fileno()])
    theirs.close()
    with DirectClient(ours, 9) as client:
        assert client.call("echo", 1) == 1
    assert worker.receive().value == {"calls": 1, "errors": 0}


def test_a_socket_that_does_not_block_is_served_nevertheless(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    worker.send_fds("channel", {"lease": 1}, [theirs.fileno()])
    theirs.close()
    worker.send_raw(msgpack.packb([0, 9, "direct", [{"lease": 1}]]))
    with DirectClient(ours, 9) as client:
        assert not select.select([ours], [], [], 0)[0]
        assert len(client.call("big", 900_000)) == 900_000


def test_direct_without_a_lease_is_a_bad_request(worker: WorkerHarness) -> None:
    worker.send_raw(msgpack.packb([0, 9, "direct", [{}]]))
    assert worker.receive().code == "bad_request"
