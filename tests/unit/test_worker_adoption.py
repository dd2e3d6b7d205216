"""A real worker that is taken over by another daemon process: at rest, in a call, in a lease, before it is ready, again."""
from __future__ import annotations

import os
import pathlib
import socket
from typing import Any, Iterator, List, Sequence

import msgpack
import pytest

from tests.support.worker_harness import APPS, CANCELLED, DEADLINE, PATIENCE, DirectClient, WorkerHarness, session

APP = """
import os, time
from pypool_worker import current, expose, on_session_close, on_stop

count = 0

@expose
def echo(value=None): return value

@expose
def add():
    global count
    count += 1
    return count

@expose
def sleep(): time.sleep(60)

@expose
def busy():
    while True: pass

@expose
def swallow(size=0):
    try:
        time.sleep(60)
    except BaseException as exc:
        return type(exc).__name__ + "x" * size

@expose
def big(n): return b"x" * n

class Slow(dict):
    def items(self):
        with open(self["gate"]) as pipe:
            pipe.read()
        return super().items()

@expose
def packed_slowly(gate): return [1, 2, Slow(gate=gate)]

@expose
def put(key, value, size=0):
    current().session[key] = value
    return b"x" * size

@expose
def drop(key): del current().session[key]

@expose
def values(): return dict(current().session)

@expose
def close_calls():
    os.close(3)
    time.sleep(60)

@expose
def fork_later(gate):
    with open(gate) as pipe:
        pipe.read()
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(told, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(pid)

@on_session_close
def close(session): print("closed", dict(session))

@on_stop
def stop(): print("stopped")
"""
BIG = 4 << 20  # more than lies in a socket that nobody reads


def started(directory: pathlib.Path) -> Iterator[WorkerHarness]:
    (directory / "app.py").write_text(APP)
    with WorkerHarness("app", path=[str(directory)]) as worker:
        worker.start()
        yield worker


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[WorkerHarness]:
    yield from started(tmp_path)


def assert_silent(sock: socket.socket) -> None:
    """Nothing was said there, and nothing will be."""
    sock.settimeout(PATIENCE)
    assert sock.recv(100) == b""


def assert_as_before(worker: WorkerHarness) -> None:
    assert worker.call("echo", "still here").value == "still here"
    assert not worker.reply_is_there()
    assert worker.stderr() == ""


def test_a_worker_at_rest_is_taken_over_and_has_what_it_had(worker: WorkerHarness) -> None:
    assert worker.call("add").value == 1
    fds = worker.open_fds()
    worker.wait_until_blocked("receive")
    for seq in (7, 3, 2 ** 63):
        worker.adopt(seq)
        worker.expect_ready(seq)
        assert_silent(worker.former[-1])
    assert worker.call("add").value == 2
    assert worker.open_fds() == fds
    with open(f"/proc/{worker.pid}/fdinfo/3", encoding="ascii") as file:
        flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    assert flags & os.O_CLOEXEC and not flags & os.O_NONBLOCK
    assert_as_before(worker)
    assert worker.stop() == 0 and worker.stdout() == "stopped\n"


@pytest.mark.parametrize("target", ["sleep", "busy", "swallow"])
def test_a_call_that_runs_goes_on_to_its_end_and_its_reply_is_lost(worker: WorkerHarness, target: str) -> None:
    call = worker.request(target)
    worker.wait_for_frame(target)
    worker.adopt()
    worker.send_control("ping", {"seq": 5})
    assert worker.expect("pong") == {"seq": 5}, "and no ready meanwhile"
    worker.wait_for_frame(target)
    worker.interrupt(call + 1, CANCELLED)
    worker.interrupt(call, DEADLINE)
    worker.expect_ready()
    assert_silent(worker.former[0])
    assert_as_before(worker)


def test_hello_is_whole_also_while_the_main_thread_packs_a_reply(worker: WorkerHarness, tmp_path: pathlib.Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    worker.request("packed_slowly", [gate])
    with open(gate, "wb"):  # open when the worker has opened it
        worker.adopt()
    worker.expect_ready()
    assert_as_before(worker)


def test_interrupts_strike_as_before_after_an_adoption(worker: WorkerHarness) -> None:
    worker.adopt()
    worker.expect_ready()
    call = worker.request("sleep")
    worker.wait_for_frame("sleep")
    worker.interrupt(call, CANCELLED)
    assert worker.receive().code == "cancelled"
    assert_as_before(worker)


@pytest.mark.parametrize("sent", [
    b"\x00", b"\x00\x00\x00\x50\x94\x00", b"\x00\x03\x00\x00" + b"x" * 100_000, b"\x00\x00\x00\x01"])
def test_a_request_that_came_in_part_is_forgotten(worker: WorkerHarness, sent: bytes) -> None:
    worker.wait_until_blocked("receive")
    worker.send_part(sent)
    worker.wait_until_blocked("_receive_large" if len(sent) > 1000 else "_receive_in_pieces" if len(sent) > 1 else
                              "receive")
    worker.adopt()
    worker.expect_ready()
    assert_silent(worker.former[0])
    assert_as_before(worker)


def test_what_came_behind_the_call_that_runs_is_forgotten(worker: WorkerHarness) -> None:
    frames = [msgpack.packb([0, n, "execute", [{"target": t}]]) for n, t in ((70, "sleep"), (71, "add"), (72, "add"))]
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    worker.send_part(stream[:-3])
    worker.wait_for_frame("sleep")
    worker.send_part(stream[-3:])
    worker.adopt()
    worker.interrupt(70, CANCELLED)
    worker.expect_ready()
    assert worker.call("add").value == 1
    assert_as_before(worker)


def test_a_reply_that_nobody_reads_holds_up_nothing(worker: WorkerHarness) -> None:
    worker.request("big", [BIG])
    worker.wait_until_blocked("_write_all")
    worker.adopt()
    worker.expect_ready()
    assert len(worker.call("big", BIG).value) == BIG
    assert_as_before(worker)


def test_a_handler_that_closed_the_call_channel_ends_the_worker_as_ever(worker: WorkerHarness) -> None:
    call = worker.request("close_calls")
    worker.wait_until_blocked("close_calls")
    worker.adopt()
    worker.interrupt(call, CANCELLED)
    assert worker.wait() == 1
    assert "a handler closed or changed descriptor 3" in worker.stderr()


# One after the other

def test_of_two_that_come_while_a_call_runs_the_last_counts(worker: WorkerHarness) -> None:
    call = worker.request("sleep")
    worker.wait_for_frame("sleep")
    for seq in (1, 2, 3):
        worker.adopt(seq)
    assert_silent(worker.former[1])
    assert_silent(worker.former[2])
    worker.interrupt(call, CANCELLED)
    worker.expect_ready(3)
    assert_as_before(worker)


def test_every_hello_comes_before_its_ready_and_the_last_channel_is_served(worker: WorkerHarness) -> None:
    count = 60  # as many answers as lie in a socket that is not read meanwhile
    for seq in range(1, count + 1):
        worker.offer_adoption(seq)
        worker.request("echo", [seq])
    told: List[Any] = []
    while not told or told[-1] != ("ready", count):
        name, fields = worker.receive_control()
        told.append((name, fields["adopted"]))
    hellos = [seq for name, seq in told if name == "hello"]
    readies = [seq for name, seq in told if name == "ready"]
    assert hellos == list(range(1, count + 1)) and readies == sorted(set(readies))
    for seq in readies:  # said while no later one was known
        later = ("hello", seq + 1)
        assert told.index(("hello", seq)) < told.index(("ready", seq))
        assert seq == count or told.index(("ready", seq)) < told.index(later)
    assert worker.receive().value == count
    assert_as_before(worker)


# Sessions

def test_sessions_keep_their_values_and_state(worker: WorkerHarness) -> None:
    worker.in_session("put", "a", 1, values={})
    worker.in_session("put", "b", 2, number=2, bound=False, values={"a": 0})
    worker.adopt()
    worker.expect_ready()
    assert worker.in_session("values").value == {"a": 1}
    assert worker.in_session("values", number=2, bound=False).value == {"a": 0, "b": 2}
    assert worker.in_session("values", values={"z": 3}).value == {"z": 3}
    assert worker.stop() == 0
    assert worker.stdout() == "closed {'z': 3}\nstopped\n"


@pytest.mark.parametrize("target, args", [("put", ["a", 2, BIG]), ("put", ["b", 2, BIG])])
def test_what_a_lost_reply_wrote_is_not_kept(worker: WorkerHarness, target: str, args: List[Any]) -> None:
    worker.in_session("put", "a", 1, values={})
    worker.request(target, args, session=session())
    worker.wait_until_blocked("_write_all")
    worker.adopt()
    worker.expect_ready()
    assert_as_before(worker)
    assert worker.in_session("values").value == {"a": 1}
    worker.in_session("drop", "a")
    assert worker.in_session("values").value == {}, "as ever"


def test_nothing_of_a_session_is_kept_of_a_call_that_ran_meanwhile(worker: WorkerHarness, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "gate")
    code = f"open({str(tmp_path / 'gate')!r}).read()"
    (tmp_path / "gated.py").write_text(f"""
from pypool_worker import current, expose
@expose
def put(): current().session["a"] = {code}
@expose
def values(): return dict(current().session)
""")
    with WorkerHarness("gated", path=[str(tmp_path)]) as gated:
        gated.start()
        gated.request("put", session=session(values={"a": "before"}))
        gated.wait_for_frame("put")
        gated.adopt()
        (tmp_path / "gate").write_text("lost")
        gated.expect_ready()
        assert gated.in_session("values").value == {"a": "before"}


# Direct leases

@pytest.mark.parametrize("calls", [0, 3])
def test_a_direct_lease_at_rest_ends(worker: WorkerHarness, calls: int) -> None:
    with worker.direct() as client:
        for number in range(calls):
            assert client.call("echo", number) == number
        worker.wait_until_blocked("fill")
        worker.adopt()
        assert client.receive() == []
        worker.expect_ready()
    assert_silent(worker.former[0])
    with worker.direct() as client:
        assert client.call("echo", 5) == 5
    assert worker.receive().value == {"calls": 1, "errors": 0}
    assert_as_before(worker)


def test_a_direct_lease_ends_when_its_handler_does(worker: WorkerHarness) -> None:
    with worker.direct() as client:
        client.request("swallow", [BIG])
        client.request("add", [])
        worker.wait_for_frame("swallow")
        worker.adopt()
        assert client.receive() == [], "at once"
        worker.wait_for_frame("swallow")
        worker.interrupt(client.call_number, CANCELLED)
        worker.expect_ready()
    worker.set_page(0, CANCELLED)
    assert worker.call("add").value == 1, "what came behind it did not run"
    assert_as_before(worker)


def test_a_direct_lease_whose_client_does_not_read_holds_up_nothing(worker: WorkerHarness) -> None:
    with worker.direct() as client:
        client.request("big", [BIG])
        worker.wait_until_blocked("_write_all")
        worker.adopt()
        worker.expect_ready()
    assert_as_before(worker)


def test_the_socket_of_a_lease_that_has_not_begun_is_closed(worker: WorkerHarness) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        worker.send_fds("channel", {"lease": 1}, [theirs.fileno()])
        theirs.close()
        worker.adopt()
        assert_silent(ours)
        worker.expect_ready()
    assert_as_before(worker)


def test_a_lease_whose_socket_never_came_is_not_waited_for(worker: WorkerHarness) -> None:
    worker.send_raw(msgpack.packb([0, 9, "direct", [{"lease": 4}]]))
    worker.wait_until_blocked("take")
    worker.adopt()
    worker.expect_ready()
    ours, theirs = socket.socketpair()
    worker.send_raw(msgpack.packb([0, 10, "direct", [{"lease": 4}]]))
    worker.send_fds("channel", {"lease": 4}, [theirs.fileno()])
    theirs.close()
    with DirectClient(ours, 10) as client:
        assert client.call("echo", 1) == 1
    assert worker.receive().value == {"calls": 1, "errors": 0}
    assert_as_before(worker)


def test_a_socket_that_comes_after_the_adoption_is_that_of_the_next_lease(worker: WorkerHarness) -> None:
    call = worker.request("sleep")
    worker.wait_for_frame("sleep")
    worker.adopt()
    with worker.direct() as client:
        worker.interrupt(call, CANCELLED)
        worker.expect_ready()
        assert client.call("echo", 1) == 1
    assert worker.receive().value == {"calls": 1, "errors": 0}
    assert_as_before(worker)


# Before it is ready

def test_during_init_hello_comes_at_once_and_ready_when_it_is(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "gated.py").write_text(f"from pypool_worker import expose\nopen({str(tmp_path / 'gate')!r}).read()\n"
                                       "@expose\ndef echo(value): return value\n")
    with WorkerHarness("gated", path=[str(tmp_path)]) as worker:
        worker.hello = worker.expect("hello")
        worker.send_init()
        worker.expect("phase")
        worker.adopt(1)
        worker.adopt(2)
        assert_silent(worker.former[0])
        (tmp_path / "gate").write_text("open")
        name, told = worker.outcome()
        assert (name, told["targets"], told["adopted"]) == ("ready", ["echo"], 2)
        assert_silent(worker.former[1])
        assert_as_before(worker)
        worker.adopt(3)
        worker.expect_ready(3)
        assert_as_before(worker)


def test_before_init_the_other_daemon_says_what_to_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with WorkerHarness("app", path=[str(tmp_path)]) as worker:
        worker.hello = worker.expect("hello")
        worker.adopt(1)
        worker.send_init()
        name, told = worker.outcome()
        assert (name, told["adopted"]) == ("ready", 1)
        worker.send_init()
        assert_as_before(worker)


def test_an_adoption_that_comes_before_the_first_line_of_python_is_answered(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with WorkerHarness("app", path=[str(tmp_path)]) as worker:
        worker.offer_adoption(1)
        worker.send_init()
        worker.hello = worker.expect("hello")
        assert worker.expect("hello") == {**worker.hello, "adopted": 1}
        name, told = worker.outcome()
        assert (name, told["adopted"]) == ("ready", 1)
        assert_as_before(worker)


# When it leaves

def test_while_stopping_nobody_takes_it_over_and_nothing_holds_it_up(worker: WorkerHarness) -> None:
    worker.in_session("put", "a", 1, values={})
    worker.request("big", [BIG])
    worker.wait_until_blocked("_write_all")
    worker.send_control("stop", {})
    worker.offer_adoption(1)
    assert worker.wait() == 0
    assert worker.control.recv(100) == b"", "no hello"
    assert_silent(worker._calls)
    assert (worker.stdout(), worker.stderr()) == ("closed {'a': 1}\nstopped\n", "")


def test_a_stop_between_an_adoption_and_its_ready_is_the_end(worker: WorkerHarness) -> None:
    call = worker.request("sleep")
    worker.wait_for_frame("sleep")
    worker.adopt()
    worker.send_control("stop", {})
    worker.send_control("ping", {"seq": 1})
    assert worker.expect("pong") == {"seq": 1}
    assert_silent(worker._calls)
    worker.interrupt(call, CANCELLED)
    assert worker.wait() == 0
    assert worker.control.recv(100) == b"", "no ready"
    assert (worker.stdout(), worker.stderr()) == ("stopped\n", "")


def test_a_stop_after_an_adoption_lets_the_call_in_hand_be_answered(worker: WorkerHarness) -> None:
    worker.adopt()
    worker.expect_ready()
    call = worker.request("swallow")
    worker.wait_for_frame("swallow")
    worker.send_control("stop", {})
    worker.interrupt(call, CANCELLED)
    assert worker.receive().value == "CallCancelled"
    assert worker.wait() == 0


def test_without_a_successor_the_end_of_the_call_channel_means_what_it_did(worker: WorkerHarness) -> None:
    worker.adopt()
    worker.expect_ready()
    worker.send_part(b"\x00\x00\x00\x05x")
    worker.wait_for_frame("_receive_in_pieces")
    worker.close_calls()
    assert worker.wait() == 1
    assert "ended inside a frame" in worker.stderr()


def test_the_former_daemons_end_does_not_matter_any_more(worker: WorkerHarness) -> None:
    worker.adopt()
    worker.expect_ready()
    worker.former[0].close()
    assert_as_before(worker)


def test_a_child_that_a_handler_forks_does_not_have_the_socket_that_waits(worker: WorkerHarness,
                                                                         tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "gate")
    worker.request("fork_later", [str(tmp_path / "gate")])
    worker.wait_for_frame("fork_later")
    worker.adopt()
    (tmp_path / "gate").write_text("open")
    worker.expect_ready()
    worker.wait_for_output("stdout", "\n")
    child = int(worker.stdout())
    try:
        names = [os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")]
        assert not [name for name in names if name.startswith("socket")]
        assert_as_before(worker)
    finally:
        os.kill(child, 9)


# What cannot be

@pytest.mark.parametrize("count", [0, 2, 5, 20])
def test_an_adopt_without_exactly_one_descriptor_ends_the_worker(worker: WorkerHarness, count: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        worker.send_fds("adopt", {"seq": 1}, [theirs.fileno()] * count)
        theirs.close()
        assert worker.wait() == 1
        if count:
            assert_silent(ours)
    assert "descriptors in place of one" in worker.stderr()


@pytest.mark.parametrize("fields", [{}, {"seq": "1"}, {"seq": None}, {"seq": True}, {"seq": 1.0}])
def test_an_adopt_without_a_number_ends_the_worker(worker: WorkerHarness, fields: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        worker.send_fds("adopt", fields, [theirs.fileno()])
        theirs.close()
        assert worker.wait() == 1
        assert_silent(ours)
    assert "control packet without seq" in worker.stderr()


def test_garbage_on_the_new_channel_ends_the_worker_as_on_any(worker: WorkerHarness) -> None:
    worker.adopt()
    worker.expect_ready()
    worker.send_part(b"\xff\xff\xff\xff\x00")
    assert worker.wait() == 1
    assert "a frame of length 4294967295" in worker.stderr()


# The end of control is the end

@pytest.mark.parametrize("target, args", [
    ("sleep", [60]), ("busy_python", [60]), ("block_on_socket", []), ("swallow_and_sleep", []), ("big", [BIG])])
def test_eof_on_control_ends_a_worker_whatever_its_handler_does(target: str, args: Sequence[Any]) -> None:
    with WorkerHarness() as worker:
        worker.start()
        worker.adopt()
        worker.expect_ready()
        worker.request(target, args)
        worker.wait_for_frame("_write_all" if target == "big" else target)
        worker.control.close()
        assert worker.wait() == 1
        assert worker.stdout() == ""


def test_eof_on_control_ends_a_worker_before_its_first_line_of_python() -> None:
    with WorkerHarness() as worker:
        worker.control.close()
        assert worker.wait() == 1
        assert "Traceback" not in worker.stderr()


def test_eof_on_control_ends_a_worker_that_waits_for_init_or_for_calls_or_serves_a_lease() -> None:
    with WorkerHarness() as worker:
        worker.expect("hello")
        worker.control.close()
        assert worker.wait() == 1
    with WorkerHarness() as worker:
        worker.start()
        worker.control.close()
        assert worker.wait() == 1
    with WorkerHarness() as worker:
        worker.start()
        with worker.direct() as client:
            assert client.call("echo", 1) == 1
            worker.control.close()
            assert worker.wait() == 1


def test_eof_on_control_ends_an_import_with_threads_that_do_not_end(tmp_path: pathlib.Path) -> None:
    (tmp_path / "threaded_import.py").write_text("""
import threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
def wait(): time.sleep(60)
wait()
""")
    with WorkerHarness("threaded_import", path=[str(tmp_path), APPS]) as worker:
        worker.expect("hello")
        worker.send_init()
        worker.wait_for_frame("wait")
        worker.control.close()
        assert worker.wait() == 1
