"""Handlers that write into a file what happens to them, and when on CLOCK_MONOTONIC, so that a test can measure it."""
from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from typing import Any, Callable, Dict

from pypool_worker import current, expose


class Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def note(path: str, what: str, name: str) -> None:
    line = {"what": what, "name": name, "t": time.monotonic(), "deadline": current().deadline, "pid": os.getpid()}
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(fd, (json.dumps(line) + "\n").encode())
    finally:
        os.close(fd)


def block_in_sleep(seconds: float) -> None:
    time.sleep(seconds)


def block_in_recv(seconds: float) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def run_in_python(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hold_the_gil(seconds: float) -> None:
    """In one C function that no signal cuts short, and that gives the GIL to nobody."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)  # of zeros: PTHREAD_MUTEX_INITIALIZER
    until = Timespec(*divmod(time.time_ns() + int(seconds * 1e9), 1_000_000_000))
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_timedlock(mutex, ctypes.byref(until))


def ignore_everything(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            pass


WAYS: Dict[str, Callable[[float], None]] = {
    "sleep": block_in_sleep,
    "recv": block_in_recv,
    "python": run_in_python,
    "gil": hold_the_gil,
    "ignore": ignore_everything,
}


@expose
def record(path: str, way: str, seconds: float = 60.0, name: str = "") -> str:
    """`begun`, then `ended` or the name of the exception that ended it."""
    try:
        note(path, "begun", name)
        WAYS[way](seconds)
    except BaseException as exc:
        note(path, type(exc).__name__, name)
        raise
    note(path, "ended", name)
    return name


@expose
def echo(value: Any = None) -> Any:
    return value


@expose
def pid() -> int:
    return os.getpid()
