"""Handlers, each of which goes wrong in one way of its own."""
from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from typing import Any, List

from pypool_worker import expose


class Unpicklable(Exception):
    def __init__(self, order: int, lock: Any) -> None:
        super().__init__(f"order {order} is locked")
        self.lock = lock


@expose
def price(order: int) -> int:
    return {1: 100, 2: 250}[order]


@expose
def add(a: int, b: int) -> int:
    return a + b


@expose
def plain() -> None:
    raise ValueError("no such order: 17")


@expose
def chained() -> None:
    try:
        int("twelve")
    except ValueError as exc:
        raise LookupError("no such order") from exc


@expose
def unpicklable() -> None:
    raise Unpicklable(17, threading.Lock())


@expose
def leave(code: Any = 0) -> None:
    sys.exit(code)


@expose
def vanish(code: int) -> None:
    print("about to go", file=sys.stderr)
    os._exit(code)


@expose
def kill(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@expose
def segfault() -> None:
    ctypes.string_at(0)


@expose
def abort() -> None:
    os.abort()


@expose
def hoard(mib: int) -> int:
    kept: List[bytearray] = []
    for _ in range(mib):
        kept.append(bytearray(b"x" * (1 << 20)))
    return len(kept)


@expose
def grab(mib: int) -> int:
    """All at once: an allocation that fails costs nothing."""
    return len(bytearray(mib << 20))


@expose
def open_all(name: str) -> int:
    kept = []
    while True:
        kept.append(open(name))


@expose
def loop() -> None:
    rounds = 0
    while True:
        rounds += 1


@expose
def match() -> bool:
    return re.match(r"(a+)+$", "a" * 60 + "b") is not None


@expose
def deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@expose
def read_socket() -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return ours.recv(1)


@expose
def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@expose
def slow(seconds: float) -> float:
    print("slow begins")
    if "SHOP_BEGUN" in os.environ:  # the peers have nothing else by which it could be known
        open(os.environ["SHOP_BEGUN"], "w").close()
    time.sleep(seconds)
    return seconds


@expose
def basket() -> Any:
    return {"order": 17, "items": [{"tags": ["a", {"new", "sale"}]}]}


@expose
def locked() -> Any:
    """No protocol can carry it."""
    return {"order": 17, "lock": threading.Lock()}


@expose
def catalogue(size: int) -> bytes:
    return b"\xa5" * size


def forgotten() -> None:
    """Not exposed."""
