"""make bench: pypoold beside its floors and its peers, all in one run; ratios are what counts.

Latency: every process pinned to one core (across cores one measures the scheduler). Throughput: unpinned. Each figure is
the median of interleaved rounds; the spread is (max - min) / median, and a ratio the median of those within each round.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

from tests.bench.fairness import bench_fairness
from tests.bench.harness import BARE, LOOP, PIN, PYTHON, Figures, Table, daemon, load, relay, running
from tests.bench.scale import bench_recovery, bench_scale
from tests.bench.stateful import bench_stateful
from tests.bench.warm import bench_warm

def pool_latency(pool: "multiprocessing.pool.Pool", count: int) -> Figures:
    took = []
    begin = time.perf_counter()
    for _ in range(count):
        at = time.perf_counter()
        pool.apply(bytes, (b"x" * 16,))
        took.append(time.perf_counter() - at)
    return figures(took, begin)


def executor_latency(executor: concurrent.futures.Executor, count: int) -> Figures:
    took = []
    begin = time.perf_counter()
    for _ in range(count):
        at = time.perf_counter()
        executor.submit(bytes, b"x" * 16).result()
        took.append(time.perf_counter() - at)
    return figures(took, begin)


def executor_throughput(executor: concurrent.futures.Executor, count: int) -> Figures:
    """Eight in flight."""
    begin = time.perf_counter()
    flying = {executor.submit(bytes, b"x" * 16) for _ in range(8)}
    sent = done = 8
    while flying:
        ready, flying = concurrent.futures.wait(flying, return_when=concurrent.futures.FIRST_COMPLETED)
        done += len(ready)
        for _ in range(min(len(ready), count - sent)):
            flying.add(executor.submit(bytes, b"x" * 16))
            sent += 1
    return 0.0, 0.0, count / (time.perf_counter() - begin)


def pool_throughput(pool: "multiprocessing.pool.Pool", count: int) -> Figures:
    """Eight in flight."""
    room = threading.Semaphore(8)
    begin = time.perf_counter()
    for _ in range(count):
        room.acquire()
        pool.apply_async(bytes, (b"x" * 16,), callback=lambda _: room.release())
    for _ in range(8):
        room.acquire()
    return 0.0, 0.0, count / (time.perf_counter() - begin)


def figures(took: list[float], begin: float) -> Figures:
    total = time.perf_counter() - begin
    took.sort()
    return took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6, len(took) / total


def bench_latency(directory: str, rounds: int, count: int) -> None:
    table = Table("16-byte echo, one client, one worker, all on one core: p50", 0, "µs")
    os.sched_setaffinity(0, {int(PIN)})
    (relay_argv, relay_sock), (daemon_argv, daemon_sock) = relay(directory, 1, True), daemon(directory, 1, True)
    with running(relay_argv, relay_sock), running(daemon_argv, daemon_sock):
        with multiprocessing.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1) as executor:
            table.rounds(
                {
                    "F1 bare worker": lambda: load(["worker", PYTHON, BARE], 1, 1, 16, count, True),
                    "F2 C relay": lambda: load(["socket", relay_sock], 1, 1, 16, count, True),
                    "pypoold": lambda: load(["socket", daemon_sock], 1, 1, 16, count, True),
                    "multiprocessing.Pool": lambda: pool_latency(pool, count // 4),
                    "ProcessPoolExecutor": lambda: executor_latency(executor, count // 4),
                },
                rounds,
            )
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    table.show("F2 C relay", "pypoold at most 1.15 x F2, and at most half of both peers")


def bench_throughput(directory: str, rounds: int, count: int) -> None:
    (relay_argv, relay_sock), (daemon_argv, daemon_sock) = relay(directory, 2, False), daemon(directory, 2, False)
    eight = Table("16-byte echo, 8 connections with one call each, 2 workers", 2, "calls/s")
    piped = Table("16-byte echo, one connection with 8 pipelined calls, 2 workers", 2, "calls/s")
    with running(relay_argv, relay_sock), running(daemon_argv, daemon_sock):
        with multiprocessing.Pool(2) as pool, concurrent.futures.ProcessPoolExecutor(2) as executor:
            eight.rounds(
                {
                    "F2 C relay": lambda: load(["socket", relay_sock], 8, 1, 16, 4 * count, False),
                    "pypoold": lambda: load(["socket", daemon_sock], 8, 1, 16, 4 * count, False),
                    "multiprocessing.Pool": lambda: pool_throughput(pool, count),
                    "ProcessPoolExecutor": lambda: executor_throughput(executor, count),
                },
                rounds,
            )
        piped.rounds(
            {
                "F2 C relay": lambda: load(["socket", relay_sock], 1, 8, 16, 4 * count, False),
                "pypoold": lambda: load(["socket", daemon_sock], 1, 8, 16, 4 * count, False),
            },
            rounds,
        )
    eight.show("F2 C relay", "pypoold at least 0.9 x F2 and twice both peers")
    piped.show("F2 C relay", "pypoold at least 0.9 x F2")


def rss_kib(pid: int, key: str = "VmRSS") -> int:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise SystemExit(f"no {key} of {pid}")


def bench_large(directory: str, rounds: int) -> None:
    (relay_argv, relay_sock), (daemon_argv, daemon_sock) = relay(directory, 1, False), daemon(directory, 1, False)
    loop_argv, loop_sock = relay(directory, 1, False, LOOP)
    with running(relay_argv, relay_sock), running(loop_argv, loop_sock), running(daemon_argv, daemon_sock) as process:
        idle = rss_kib(process.pid)
        for mib, count, floor, wanted in ((1, 200, "F2 C relay", 0.9), (60, 6, "F2, same worker loop", 0.85)):
            size = mib << 20
            table = Table(f"{mib} MiB echo, one client, one worker", 2, "MB/s", 2 * size / 1e6)
            table.rounds(
                {
                    "F2 C relay": lambda: load(["socket", relay_sock], 1, 1, size, count, False),
                    "F2, same worker loop": lambda: load(["socket", loop_sock], 1, 1, size, count, False),
                    "pypoold": lambda: load(["socket", daemon_sock], 1, 1, size, count, False),
                },
                rounds,
            )
            table.show(floor, f"pypoold at least {wanted} x {floor}")
        peak = rss_kib(process.pid, "VmHWM")
        print(f"  daemon's peak over its idle RSS: {(peak - idle) / 1024 / 60:.2f} x the 60 MiB payload (wanted: 1.25)")


IDLE_CLIENT = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
held = []
for _ in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)
for s in held[-1:]:
    s.sendall(bytes.fromhex("00000009940001a470696e6791 80".replace(" ", "")))
    s.recv(100)
print("ready", flush=True)
sys.stdin.read()
"""


def bench_memory(directory: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    print("\nmemory of the daemon")
    argv, sock = daemon(directory, 8, False)
    with running(argv, sock) as process:
        warm_up(sock, 8)
        idle = rss_kib(process.pid)
        print(f"  idle with 8 workers: {idle / 1024:.1f} MiB RSS (wanted: 5)")
        client = subprocess.Popen(
            [PYTHON, "-c", IDLE_CLIENT, sock, "10000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert client.stdin and client.stdout
        client.stdout.readline()
        each = (rss_kib(process.pid) - idle) * 1024 / 10000
        print(f"  each of 10,000 idle connections: {each:.0f} bytes (wanted: 1024)")
        client.stdin.close()
        client.wait(30)
    argv, sock = daemon(directory, 8, False)
    with running(argv, sock) as process:
        warm_up(sock, 8)
        with waiting(sock, 10000):
            print(f"  with 10,000 waiting calls: {rss_kib(process.pid) / 1024:.1f} MiB RSS (wanted: 16)")


def frame(message: object) -> bytes:
    import msgpack

    body: bytes = msgpack.packb(message)
    return struct.pack(">I", len(body)) + body


def warm_up(sock: str, calls: int) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sock)
        for n in range(calls):
            s.sendall(frame([0, n, "execute", [{"target": "echo", "args": [n]}]]))
            s.recv(1000)


@contextlib.contextmanager
def waiting(sock: str, calls: int) -> Iterator[None]:
    """That many calls wait; they end with the connection."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sock)
        burst = b"".join(frame([0, n, "execute", [{"target": "nap", "args": [30]}]]) for n in range(calls + 8))
        s.sendall(burst + frame([0, calls + 9, "ping", [{}]]))
        s.recv(100)
        yield


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("parts", nargs="*", default=["latency", "throughput", "stateful", "fairness", "large", "memory", "scale", "recovery", "warm"])
    args = parser.parse_args()
    load_average = os.getloadavg()[0]
    print(f"load before the run: {load_average:.1f} (figures are worth something below 0.5)")
    with tempfile.TemporaryDirectory(prefix="pypool-bench.") as directory:
        if "latency" in args.parts:
            bench_latency(directory, args.rounds, args.count)
        if "throughput" in args.parts:
            bench_throughput(directory, args.rounds, args.count)
        if "stateful" in args.parts:
            bench_stateful(directory, args.rounds, args.count // 2)
        if "fairness" in args.parts:
            bench_fairness(directory, args.rounds, args.count // 50)
        if "large" in args.parts:
            bench_large(directory, args.rounds)
        if "memory" in args.parts:
            bench_memory(directory)
        if "scale" in args.parts:
            bench_scale(directory, args.rounds, args.count)
        if "recovery" in args.parts:
            bench_recovery(directory, 4 * args.rounds)
        if "warm" in args.parts:
            bench_warm(directory, args.rounds)


if __name__ == "__main__":
    main()
