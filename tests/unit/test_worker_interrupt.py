"""Interrupts and stack dumps of a real worker."""
from __future__ import annotations

import pathlib
import random
import statistics
import time
from typing import Iterator, List

import pytest

from tests.support.measured import report
from tests.support.worker_harness import CANCELLED, DEADLINE, WorkerHarness

# Generous for a loaded machine; what is typical is the median, and much less.
TYPICAL = 0.005


def assert_typical(what: str, took: List[float]) -> None:
    text = report(what, took)
    assert statistics.median(took) < TYPICAL, text


@pytest.fixture
def worker() -> Iterator[WorkerHarness]:
    with WorkerHarness() as fresh:
        fresh.start()
        yield fresh


@pytest.mark.parametrize("target,args", [("sleep", [60]), ("block_on_socket", []), ("busy_python", [60])])
def test_an_interrupt_ends_python_code_and_blocking_calls_at_once(worker: WorkerHarness, target: str,
                                                                  args: List[int]) -> None:
    took: List[float] = []
    for _ in range(7):
        call = worker.request(target, args)
        worker.wait_for_frame(target)
        began = time.perf_counter()
        worker.interrupt(call, CANCELLED)
        reply = worker.receive()
        took.append(time.perf_counter() - began)
        assert reply.code == "cancelled", reply.error
        assert reply.message.startswith(f"cancelled in {target}: nasty.py line ")
    assert_typical(f"interrupt of {target}", took)


def test_the_reason_makes_the_exception(worker: WorkerHarness) -> None:
    for reason, code in ((CANCELLED, "cancelled"), (DEADLINE, "deadline_exceeded")):
        call = worker.request("sleep", [60])
        worker.wait_for_frame("sleep")
        worker.interrupt(call, reason)
        assert worker.receive().code == code


def test_a_handler_that_catches_the_interrupt_answers_in_the_ordinary_way(worker: WorkerHarness) -> None:
    call = worker.request("swallow_interrupt", [60])
    worker.wait_for_frame("swallow_interrupt")
    worker.interrupt(call, DEADLINE)
    reply = worker.receive()
    assert reply.error is None and reply.value == "swallowed DeadlineExceeded"


def test_an_interrupt_that_came_before_the_call_hits_it(worker: WorkerHarness) -> None:
    worker.set_page(1, CANCELLED)
    assert worker.request("sleep", [60]) == 1
    assert worker.receive().code == "cancelled"


def test_fault_24_interrupts_that_come_late_or_twice_or_for_others_hit_nobody(worker: WorkerHarness) -> None:
    call = worker.request("sleep", [60])
    worker.wait_for_frame("sleep")
    for _ in range(3):
        worker.interrupt(call, CANCELLED)
    assert worker.receive().code == "cancelled"
    worker.interrupt(call, CANCELLED)
    assert worker.call("echo", 1).value == 1
    other = worker.request("busy_python", [1.0])
    worker.wait_for_frame("busy_python")
    for wanted in (0, call, other + 1, 2 ** 64 - 1):
        worker.interrupt(wanted, CANCELLED)
    assert worker.receive().error is None


def test_interrupts_at_any_moment_give_one_reply_and_no_wrong_victim(worker: WorkerHarness) -> None:
    chance, codes = random.Random(24), set()
    for number in range(1500):
        call = worker.request("busy_python", [0.0002])
        for _ in range(chance.randrange(400)):
            pass
        worker.interrupt(call, CANCELLED)
        if chance.random() < 0.3:
            worker.interrupt(call, CANCELLED)
        reply = worker.receive()
        assert reply.call == call and reply.code in (None, "cancelled"), reply.error
        codes.add(reply.code)
        untouched = worker.request("echo", [number])
        worker.interrupt(call, CANCELLED)
        reply = worker.receive()
        assert reply.call == untouched and reply.value == number
    assert "cancelled" in codes
    assert not worker.reply_is_there()


def test_finally_blocks_run(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text("""
import time
from pypool_worker import expose
@expose
def careful():
    try:
        time.sleep(60)
    except Exception:
        print("except Exception must not see it")
    finally:
        print("cleaned up")
""")
    with WorkerHarness("app", path=[str(tmp_path)]) as worker:
        worker.start()
        call = worker.request("careful")
        worker.wait_for_frame("careful")
        worker.interrupt(call, CANCELLED)
        assert worker.receive().code == "cancelled"
        worker.stop()
        assert worker.stdout() == "cleaned up\n"


@pytest.mark.parametrize("target,args", [
    ("sleep", [60]), ("busy_python", [60]), ("busy_c", [3]), ("block_on_socket", [])])
def test_fault_35_the_stack_comes_at_once_also_while_c_code_holds_the_gil(worker: WorkerHarness, target: str,
                                                                         args: List[int]) -> None:
    worker.request(target, args)
    worker.wait_for_frame(target)
    took: List[float] = []
    for _ in range(7):
        text, seconds = worker.dump()
        took.append(seconds)
        first = text.lstrip("\n").splitlines()
        assert first[0] == "Stack (most recent call first):", text
        # two frames of socket.socketpair() at the most, while it is being made
        assert any(line.endswith(f" in {target}") for line in first[1:4]), text
    assert_typical(f"stack of {target}", took)


def test_a_dump_does_not_disturb_the_call(worker: WorkerHarness) -> None:
    worker.request("sleep", [1.0])
    worker.wait_for_frame("sleep")
    reply = worker.receive()
    assert reply.value == 1.0 and reply.meta["run_us"] >= 1_000_000


def test_the_end_byte_survives_asyncio(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text("""
import asyncio, signal
from pypool_worker import expose
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1 + 7, print)
    await asyncio.sleep(0)
    return "done"
@expose
def uses_asyncio():
    return asyncio.run(main())
""")
    with WorkerHarness("app", path=[str(tmp_path)]) as worker:
        worker.start()
        assert worker.call("uses_asyncio").value == "done"
        assert worker.dump()[0].endswith("\x0c")


def test_a_dump_while_idle_shows_the_runner(worker: WorkerHarness) -> None:
    worker.call("echo", 1)
    worker.wait_for_frame("receive")
