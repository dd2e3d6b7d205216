"""What the parts of the bench share: servers that come and go, the load, and tables of interleaved rounds."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = os.environ.get("PYTHON", "/usr/bin/python3")
BUILD = pathlib.Path(os.environ.get("PYPOOL_BUILD", str(HERE.parent.parent / "build")))
BARE = str(HERE / "bare_worker.py")
LOOP = str(HERE / "loop_worker.py")
LOAD = str(BUILD / "bench/load")
RELAY = str(BUILD / "bench/relay")
PIN = "0"

Figures = tuple[float, float, float]  # p50 µs, p99 µs, calls/s


def pinned(argv: list[str], pin: bool) -> list[str]:
    return ["taskset", "-c", PIN, *argv] if pin else argv


@contextlib.contextmanager
def running(argv: list[str], sock: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from its socket to its end."""
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not connects(sock):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv}: did not come up")
            os.sched_yield()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sock)


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def relay(directory: str, workers: int, pin: bool, script: str = BARE) -> tuple[list[str], str]:
    sock = f"{directory}/{pathlib.Path(script).stem}.sock"
    return pinned([RELAY, sock, PYTHON, script, str(workers)], pin), sock


def daemon(
    directory: str, workers: int, pin: bool, python: str = PYTHON, more: str = "", settings: str = ""
) -> tuple[list[str], str]:
    """A daemon with one pool. python: its workers' interpreter, or the scripted worker in C; more: settings of the pool;
    settings: of the daemon."""
    sock = f"{directory}/pypoold.sock"
    conf = pathlib.Path(directory, "bench.conf")
    conf.write_text(
        f'socket = "{sock}"\nlog_level = warning\nuid_max_calls = 0\nuid_max_bytes = "0"\nuid_max_connections = 0\nuid_max_leases = 0\n'
        f'max_clients = 0\n{settings}pool "default" {{\n  app = "echo_app"\n  path = {{"{HERE}"}}\n  python = "{python}"\n'
        f'  min_workers = {workers}\n  max_workers = {workers}\n  max_queue = 0\n  queue_timeout = "0"\n{more}}}\n'
    )
    return pinned([str(BUILD / "pypoold"), "--config", str(conf)], pin), sock


def load(where: list[str], connections: int, depth: int, size: int, count: int, pin: bool, target: str = "echo") -> Figures:
    argv = pinned([LOAD, *where, target, str(connections), str(depth), str(size), str(count)], pin)
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1]), float(out[2])


class Table:
    """Interleaved rounds of several contenders, there and back. A ratio is the median of those within each round: what makes
    the machine slower or faster for a while does so for both."""

    def __init__(self, title: str, column: int, unit: str, scale: float = 1.0) -> None:
        self.title, self.column, self.unit, self.scale = title, column, unit, scale
        self.samples: dict[str, list[float]] = {}

    def rounds(self, contenders: dict[str, Callable[[], Figures]], rounds: int) -> None:
        for name in contenders:
            self.samples.setdefault(name, [])
        for _ in range(rounds):
            contenders = dict(reversed(contenders.items()))
            for name, measure in contenders.items():
                self.samples[name].append(measure()[self.column] * self.scale)

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, name: str, floor: str) -> float:
        return statistics.median(a / b for a, b in zip(self.samples[name], self.samples[floor]))

    def show(self, floor: str, wanted: str) -> None:
        print(f"\n{self.title} ({self.unit}; load of the machine {os.getloadavg()[0]:.1f}, the bench itself included)")
        for name, values in self.samples.items():
            middle = self.median(name)
            spread = (max(values) - min(values)) / middle * 100
            print(f"  {name:22} {middle:12.1f}   spread {spread:4.0f} %   {self.ratio(name, floor):6.3f} x {floor}")
        print(f"  wanted: {wanted}")
        sys.stdout.flush()
