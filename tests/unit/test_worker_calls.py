"""A real worker that takes calls: answers, failures, and what handlers do to the process."""
from __future__ import annotations

import os
import pathlib
import signal
import time
from typing import Any, Iterator, List

import msgpack
import pytest

from tests.support.worker_harness import Reply, WorkerHarness


@pytest.fixture(scope="module")
def shared() -> Iterator[WorkerHarness]:
    """One worker for the tests that must not harm it; that it still answers at the end is a test too."""
    with WorkerHarness() as worker:
        worker.start()
        yield worker
        assert worker.call("echo", "alive").value == "alive"


@pytest.fixture
def worker() -> Iterator[WorkerHarness]:
    with WorkerHarness() as fresh:
        fresh.start()
        yield fresh


def app(directory: pathlib.Path, text: str) -> WorkerHarness:
    (directory / "app.py").write_text("from pypool_worker import current, expose\n" + text)
    return WorkerHarness("app", path=[str(directory)])


@pytest.mark.parametrize("value", [
    None, True, -1, 2 ** 64 - 1, -2 ** 63, 1.5, "ü", b"\x00\xff", [], {}, [[1], {"a": {}}], {1: 2}, {b"k": None},
    "x" * 200_000, b"y" * 3_000_000])
def test_values_come_back_as_they_went(shared: WorkerHarness, value: Any) -> None:
    reply = shared.call("echo", value)
    assert reply.error is None and reply.value == value
    assert isinstance(reply.meta["run_us"], int)


def test_keywords_none_and_nil_arguments(shared: WorkerHarness) -> None:
    assert shared.call("echo", value=3).value == 3
    nothing: List[Any] = [None, [], {}]
    for args in nothing:
        shared.request("echo", args)
        assert shared.receive().value is None


def test_extension_types_and_timestamps_pass(shared: WorkerHarness) -> None:
    shared.send_raw(b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x91\xd4\x05\x01")
    assert shared.receive().value == msgpack.ExtType(5, b"\x01")
    shared.send_raw(b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x91\xd6\xff\x00\x00\x00\x01")
    assert shared.receive().error is None


def test_run_us_is_the_time_of_the_handler(shared: WorkerHarness) -> None:
    assert 20_000 <= shared.call("sleep", 0.02).meta["run_us"] < 2_000_000


def test_the_context_tells_about_the_call(shared: WorkerHarness) -> None:
    deadline = time.monotonic_ns() + 60 * 10 ** 9
    call = shared.request("context", deadline_ns=deadline, traceparent="00-aa-bb-01")
    told = shared.receive().value
    assert told["call_id"] == call and told["trace"] == "00-aa-bb-01" and told["deadline"] == deadline / 1e9
    assert 50 < told["remaining"] <= 60
    shared.wait_for_output("stderr", f"INFO call {call}: seen in the log")
    assert shared.call("context").value["remaining"] is None


def test_the_context_exists_only_inside_of_calls(tmp_path: pathlib.Path) -> None:
    with app(tmp_path, """
import threading
from pypool_worker import on_stop
def attempt():
    try:
        return str(current())
    except RuntimeError as exc:
        return str(exc)
@expose
def in_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(attempt()))
    thread.start(); thread.join()
    return seen[0]
on_stop(lambda: print(attempt()))
""") as worker:
        worker.start()
        assert "no call runs here" in worker.call("in_thread").value
        worker.stop()
        assert "no call runs here" in worker.stdout()


# Requests that cannot be carried out

BAD_ARGS = [b"\x05", b"\xa1x", b"\x81\x01\x02", b"\x81\xc4\x01k\x02", b"\xc3",
            b"\x81\x91\x01\x02",                # the key of the map is an array: cannot even be unpacked
            b"\x91\xa2\xff\xfe",                # text that is not UTF-8
            b"\x91" * 2000 + b"\xc0"]           # nested too deep for msgpack


@pytest.mark.parametrize("args", BAD_ARGS)
def test_fault_11_arguments_of_a_wrong_shape_are_a_bad_request(shared: WorkerHarness, args: bytes) -> None:
    shared.send_raw(b"\x94\x00\xcd\x12\x34\xa7execute\x91\x82\xa6target\xa4echo\xa4args" + args)
    reply = shared.receive()
    assert (reply.call, reply.code) == (0x1234, "bad_request"), reply.error
    assert "arg" in reply.message


@pytest.mark.parametrize("fields", [{}, {"target": 5}, {"target": b"echo"}, {"target": "echo", "deadline_ns": "soon"},
                                    {"target": "echo", "traceparent": 1}])
def test_fault_11_fields_of_a_wrong_type_are_a_bad_request(shared: WorkerHarness, fields: Any) -> None:
    shared.send_raw(msgpack.packb([0, 99, "execute", [fields]]))
    reply = shared.receive()
    assert (reply.call, reply.code) == (99, "bad_request")


def test_another_method_is_a_bad_request(shared: WorkerHarness) -> None:
    shared.send_raw(msgpack.packb([0, 98, "eval", ["1"]]))
    assert shared.receive().code == "bad_request"


@pytest.mark.parametrize("target", [
    "os.system", "__import__", "echo.__globals__", "os:system", "nasty:echo", "say_goodbye", "not_exposed",
    "x" * 100_000, "a\nb\x1b[31m"])
def test_fault_116_only_exposed_names_can_be_called(shared: WorkerHarness, target: str) -> None:
    reply = shared.call(target)
    assert reply.code == "unknown_target" and len(reply.message) < 1000
    assert "\n" not in reply.message and "\x1b" not in reply.message


@pytest.mark.parametrize("garbage", [
    b"\xc1", b"\xc0", b"\x93\x02\xa1x\x90", b"\x94\x00\xc0\xa7execute\x90", b"\x01\x02"])
def test_a_frame_that_is_no_request_ends_the_worker_with_a_message(worker: WorkerHarness, garbage: bytes) -> None:
    worker.send_raw(garbage)
    assert worker.wait() == 1
    assert "call channel failed" in worker.stderr()


# Handlers that raise

def test_app_error_has_the_whole_cause(shared: WorkerHarness) -> None:
    reply = shared.call("raise_chained")
    assert reply.code == "app_error" and reply.error is not None
    cause = reply.error["cause"]
    assert reply.message.startswith(f"LookupError: no such order, nasty.py line {cause['line']}, caused by ValueError: ")
    assert (cause["type"], cause["module"], cause["message"]) == ("LookupError", "builtins", "no such order")
    assert cause["file"].endswith("/nasty.py") and "direct cause" in cause["traceback"]
    assert "runner.py" not in cause["traceback"]


def test_wrong_arguments_are_a_type_error_at_the_handlers_own_place(shared: WorkerHarness) -> None:
    reply = shared.call("echo", 1, 2, 3)
    assert reply.code == "app_error" and "TypeError: echo() takes" in reply.message and "nasty.py line" in reply.message


def test_fault_33_sys_exit_is_an_error_reply(shared: WorkerHarness) -> None:
    reply = shared.call("sys_exit", 0)
    assert reply.code == "app_error" and reply.message.startswith("SystemExit: 0, nasty.py line")


def test_nothing_that_is_raised_ends_the_worker(tmp_path: pathlib.Path) -> None:
    with app(tmp_path, r"""
class Mean(BaseException):
    def __str__(self): raise KeyboardInterrupt
    @property
    def __class__(self): raise SystemExit
    @property
    def __traceback__(self): raise GeneratorExit
class MeanStream:
    def flush(self): raise SystemExit("flush")
    def write(self, text): raise KeyboardInterrupt
def again(): again()
def memory(): return b"x" * (1 << 62)
class MeanDict(dict):
    def items(self): raise SystemExit("items")
def mean(): raise Mean
def mean_result(): return {"a": MeanDict(b=1)}
def nested():
    value = []
    for _ in range(100000): value = [value]
    return value
def streams():
    import sys
    sys.stdout = sys.stderr = MeanStream()
def no_streams():
    import sys
    sys.stdout = None; sys.stderr.close() if hasattr(sys.stderr, "close") else None
CASES = [again, memory, mean, mean_result, nested, streams, no_streams]
@expose
def case(name):
    return {f.__name__: f for f in CASES}[name]()
@expose
def throw(name):
    import builtins
    raise getattr(builtins, name)("thrown")
""") as worker:
        worker.start()
        for name in ("KeyboardInterrupt", "SystemExit", "GeneratorExit", "MemoryError", "StopIteration",
                     "BaseException", "RecursionError", "AssertionError"):
            reply = worker.call("throw", name)
            assert reply.code == "app_error" and f"{name}: thrown" in reply.message
        codes = {name: worker.call("case", name).code for name in (
            "again", "memory", "mean", "mean_result", "nested", "streams", "no_streams")}
        assert codes == {"again": "app_error", "memory": "app_error", "mean": "app_error", "streams": None,
                         "mean_result": "unserializable", "nested": "unserializable", "no_streams": None}
        assert worker.call("throw", "ValueError").message.startswith("ValueError: thrown")
        assert worker.stop() == 0


# Results

def test_unserializable_names_the_place(shared: WorkerHarness) -> None:
    reply = shared.call("unserializable")
    assert reply.code == "unserializable" and reply.message.startswith('result["a"][3] is a set')


def test_depth_up_to_the_limit_passes_and_more_is_told(shared: WorkerHarness) -> None:
    assert shared.call("deep", 100).error is None
    assert shared.call("deep", 500).error is None
    assert "nested deeper" in shared.call("deep", 600).message


def test_a_result_over_max_reply_is_too_large_and_nothing_of_it_is_sent() -> None:
    with WorkerHarness(max_reply=10_000) as worker:
        worker.start()
        assert len(worker.call("big", 9_900).value) == 9_900
        reply = worker.call("big", 10_001)
        assert reply.code == "too_large" and "10000" in reply.message
        assert worker.call("raise_chained").code == "app_error"


def test_a_large_result_comes_whole(shared: WorkerHarness) -> None:
    assert shared.call("big", 20_000_000).value == b"\xa5" * 20_000_000


# What handlers do to the process

def test_fault_41_print_goes_to_the_outputs_before_the_reply_and_never_to_the_protocol(worker: WorkerHarness) -> None:
    assert worker.call("print_then", 5).value == 5
    worker.wait_for_output("stdout", "printed on stdout\nno newline")
    worker.wait_for_output("stderr", "printed on stderr\n")


def test_fault_40_10_mib_of_stderr_do_not_wedge_it(shared: WorkerHarness) -> None:
    assert shared.call("noisy", 10 << 20).value == 10 << 20


def test_fault_42_a_handler_that_closes_the_descriptors_ends_the_worker_with_a_message(worker: WorkerHarness) -> None:
    worker.request("close_fds")
    assert worker.wait() == 1
    assert "closed or changed descriptor 3" in worker.stderr()


def test_fault_33_os_exit_and_fault_34_segv_end_it_at_once() -> None:
    with WorkerHarness() as worker:
        worker.start()
        worker.request("os_exit", [7])
        assert worker.wait() == 7
    with WorkerHarness() as worker:
        worker.start()
        worker.request("crash")
        assert worker.wait() == -signal.SIGSEGV
        last = worker.last_dump()
        assert last.startswith("Fatal Python error: Segmentation fault\n") and " in crash\n" in last
        assert "control.py" not in last, "only the thread that crashed"


def test_a_forked_child_that_comes_back_cannot_answer_for_the_worker(tmp_path: pathlib.Path) -> None:
    with app(tmp_path, """
import os
@expose
def fork():
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "from the child"
""") as worker:
        worker.start()
        assert worker.call("fork").value == 1
        assert worker.call("fork").value == 1
        worker.wait_for_output("stderr", "must end with os._exit")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_in_handlers(tmp_path: pathlib.Path, method: str) -> None:
    with app(tmp_path, """
import multiprocessing
def square(n): return n * n
@expose
def squares(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(4))
""") as worker:
        worker.start()
        assert worker.call("squares", method).value == [0, 1, 4, 9], worker.stderr()


def test_ctrl_c_does_not_end_it(worker: WorkerHarness) -> None:
    os.kill(worker.pid, signal.SIGINT)
    assert worker.call("echo", 1).value == 1


def test_nothing_of_a_call_is_kept_while_waiting_for_the_next(tmp_path: pathlib.Path) -> None:
    with app(tmp_path, """
import weakref
class Thing(list): pass
refs = []
@expose
def make():
    thing = Thing()
    refs.append(weakref.ref(thing))
    return thing
@expose
def fails():
    thing = Thing()
    refs.append(weakref.ref(thing))
    raise ValueError(thing)
@expose
def alive(): return sum(ref() is not None for ref in refs)
""") as worker:
        worker.start()
        worker.call("make")
        worker.call("fails")
        assert worker.call("alive").value == 0


# Control while a call runs, and leaving

def test_ping_is_answered_during_calls(worker: WorkerHarness) -> None:
    for target, place in (("sleep", "sleep"), ("busy_python", "busy_python")):
        call = worker.request(target, [60])
        worker.wait_for_frame(place)
        worker.send_control("ping", {"seq": 3})
        assert worker.expect("pong") == {"seq": 3}
        worker.interrupt(call, 1)
        assert worker.receive().code == "cancelled"


def test_stop_lets_the_call_in_hand_finish_and_answers_it(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with app(tmp_path, f"""
@expose
def wait():
    return open({str(tmp_path / 'gate')!r}).read()
""") as worker:
        worker.start()
        worker.request("wait")
        worker.wait_until_blocked("wait")
        worker.send_control("stop", {})
        worker.send_control("ping", {"seq": 1})
        worker.expect("pong")
        (tmp_path / "gate").write_text("finished")
        reply: Reply = worker.receive()
        assert reply.value == "finished"
        assert worker.wait() == 0


def test_stop_runs_the_stop_hooks(worker: WorkerHarness) -> None:
    assert worker.stop() == 0
    assert worker.stdout() == "goodbye from on_stop\n"


def test_eof_on_the_call_channel_is_a_reason_to_leave(worker: WorkerHarness) -> None:
    worker.close_calls()
    assert worker.wait() == 0


@pytest.mark.parametrize("target", ["sleep", "busy_python", "ignore_term_forever"])
def test_fault_90_eof_on_control_ends_it_whatever_it_does(worker: WorkerHarness, target: str) -> None:
    worker.request(target, [] if target == "ignore_term_forever" else [60])
    worker.wait_for_frame(target)
    worker.control.close()
    assert worker.wait() == 1
