"""Whether a call costs the same with many workers and many waiting calls, and how fast a dead worker is replaced."""

from __future__ import annotations

import functools
import os
import signal
import socket
import statistics
import struct
import time
from typing import Any

import msgpack

from tests.bench.harness import BUILD, HERE, PYTHON, Figures, Table, daemon, load, running
from tests.support.waiting import eventually
from tests.support.worker_harness import WorkerHarness

STUB = str(BUILD / "tests" / "stub_worker")  # a worker in C: its own time is small beside the daemon's


def bench_scale(directory: str, rounds: int, count: int) -> None:
    many = Table("one client, scripted workers in C, all on one core: p50 of a call", 0, "µs")
    for workers in (1, 256):
        argv, sock = daemon(directory, workers, True, STUB)
        with running(argv, sock):
            load(["socket", sock], 8, 1, 0, 1000, True, "run")
            many.rounds({f"{workers} workers": lambda: load(["socket", sock], 1, 1, 0, count, True, "run")}, rounds)
    many.show("1 workers", "within 20 % from 1 to 256 workers")
    waiting = Table("one connection, scripted workers in C, all on one core: time for each call", 2, "µs")
    argv, sock = daemon(directory, 2, True, STUB)
    with running(argv, sock):
        waiting.rounds(
            {f"{depth} in flight": functools.partial(per_call, sock, depth) for depth in (8, 1000, 100_000)},
            min(rounds, 3),
        )
    waiting.show("8 in flight", "within 20 % from 0 to 100,000 that wait")


def per_call(sock: str, depth: int) -> Figures:
    p50, p99, calls_per_second = load(["socket", sock], 1, depth, 0, depth + 20_000, True, "run")
    return p50, p99, 1e6 / calls_per_second


class Caller:
    """A connection that waits for each answer."""

    def __init__(self, sock: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(sock)
        self.id = 0

    def send(self, method: str, **params: Any) -> None:
        self.id += 1
        body = msgpack.packb([0, self.id, method, [params]])
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Any:
        size = struct.unpack(">I", self.exactly(4))[0]
        return msgpack.unpackb(self.exactly(size))

    def exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += self.socket.recv(n - len(data))
        return data

    def call(self, method: str, **params: Any) -> Any:
        self.send(method, **params)
        return self.receive()[3]


def bare_start() -> float:
    """From the spawn of a worker, by hand, to its first answer."""
    begun = time.perf_counter()
    with WorkerHarness("echo_app", path=[str(HERE)], python=PYTHON) as worker:
        worker.start()
        worker.call("echo", 1)
        return time.perf_counter() - begun


def replaced(caller: Caller) -> float:
    """From the death of the only worker to the answer of its replacement."""
    (victim,) = [w["pid"] for w in caller.call("workers") if w["state"] == "idle"]
    begun = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    caller.call("execute", target="echo", args=[1])
    return time.perf_counter() - begun


def told(caller: Caller) -> float:
    """From the death of a worker to the answer of the call that it ran."""
    caller.call("execute", target="echo", args=[1])
    caller.send("execute", target="nap", args=[30])
    watcher = Caller(str(caller.socket.getpeername()))
    # one that it has not read yet would be given to its replacement
    busy = eventually(lambda: [w["pid"] for w in watcher.call("workers") if w["call"] and w["call"]["ms"] >= 5], "the call runs")
    begun = time.perf_counter()
    os.kill(busy[0], signal.SIGKILL)
    caller.receive()
    took = time.perf_counter() - begun
    caller.call("execute", target="echo", args=[1])
    return took


def bench_recovery(directory: str, times: int) -> None:
    # each death is one of the same call: that it is refused after the second is not what is measured
    argv, sock = daemon(directory, 1, False, more="  poison_kills = 0\n")
    bare, after, answer = [], [], []
    with running(argv, sock):
        caller = Caller(sock)
        caller.call("execute", target="echo", args=[1])
        for _ in range(times):
            bare.append(bare_start())
            after.append(replaced(caller))
            answer.append(told(caller))
    ratio = statistics.median(after) / statistics.median(bare)
    print(f"\na worker dies (medians of {times}; load of the machine {os.getloadavg()[0]:.1f})")
    print(f"  bare start of a worker, to its first answer {statistics.median(bare) * 1e3:8.1f} ms")
    print(f"  killed idle, to the answer of the next      {statistics.median(after) * 1e3:8.1f} ms   {ratio:6.2f} x (wanted: 1.5)")
    print(f"  killed busy, to the answer of its call      {statistics.median(answer) * 1e3:8.1f} ms   worst {max(answer) * 1e3:.1f} (wanted: 50)")
