"""The rehearsal: a template takes a worker's first steps, with stand-ins for what the daemon gives, before it forks one.

A worker copies each page that it writes to, and Python writes where nothing seems to change: it adapts the instructions
of a function that is new, fills its cache of attributes, counts references. What is done before the fork is shared.
"""
from __future__ import annotations

import _socket  # not socket, which takes long to import
import contextlib
import os
import resource
import sys
import threading
import time
from typing import Callable, Iterator, List, Optional

from pypool_worker.audit import DESCRIPTORS
from pypool_worker.bootstrap import Bootstrap
from pypool_worker.channel import LENGTH
from pypool_worker.codec import Codec
from pypool_worker.gathering import gather
from pypool_worker.native import Native
from pypool_worker.parts import PAGE, Parts
from pypool_worker.rebirth import RLIMIT_LOCKS, VARIABLE, Rebirth
from pypool_worker.registry import Handler, Registry
from pypool_worker.service import Service
from pypool_worker.targets import Targets

TIMES = 10  # Python 3.11 adapts what has run eight times
NAME = "rehearsal"
FIRST = 1  # of the numbers that a worker has from the daemon, up to PAGE


def rehearse(codec: Codec) -> None:
    """In a process that has one thread and is to be forked. OSError when there are no descriptors left for it."""
    gather(lambda: _play(codec))
    _forget_attributes()
    for _ in range(TIMES):
        _play(codec)


def _forget_attributes() -> None:
    """A worker would write to the old names in Python's cache, to put its own in their place."""
    for name in ("_clear_internal_caches", "_clear_type_cache"):  # the latter is deprecated where there is the former
        forget: Optional[Callable[[], None]] = getattr(sys, name, None)
        if forget is not None:
            forget()
            return


def _play(codec: Codec) -> None:
    # Python's own hook runs in each child. It makes the locks of threads anew and forgets all threads but the one that
    # calls it: here as there, none of them is left.
    getattr(threading, "_after_fork", lambda: None)()
    with _Stage(codec) as stage:
        stage.play()


class _Stage:
    """What one worker has, in a process that is none: descriptors above all others."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._native = Native()
        self._calls, calls = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._control, control = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        self._given = [1, 2, calls.detach(), control.detach(), writer, PAGE]
        self._opened = [reader, *self._given[2:5]]

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._calls, self._control):
            sock.close()
        for fd in self._opened:
            os.close(fd)

    def play(self) -> None:
        """From the fork to the end of the first call."""
        base = max(map(int, os.listdir(DESCRIPTORS)))
        for number, fd in enumerate(self._given, FIRST):
            self._opened.append(os.dup2(fd, base + number, inheritable=False))
        parts = Parts(self._codec, base, self._native.map_page)
        rebirth = Rebirth(parts, os.getppid())
        rebirth.prepare(self._native, {})
        try:
            with _variable_kept():  # as all else there, it is what this process has already
                self._take_over(rebirth)
            self._live(parts)
        finally:
            self._native.unmap_page()
            parts.control.abandon()

    def _take_over(self, rebirth: Rebirth) -> None:
        fds: List[int] = []
        try:
            for fd in self._given:
                fds.append(os.dup(fd))
            rebirth.take_over(0, resource.getrlimit(RLIMIT_LOCKS)[0], False, fds)
        except BaseException:
            _close_all(fds)
            raise

    def _live(self, parts: Parts) -> None:
        self._say_all()
        parts.control.hello(time.monotonic_ns())
        init = parts.control.wait_init()
        assert init is not None, "it was sent"
        Bootstrap(init, parts.control, Registry()).start(forked=True)
        targets = Targets(NAME, [])
        targets.add([Handler(NAME, _answer, False)], NAME)
        Service(parts, init, targets).serve(init.worker)

    def _say_all(self) -> None:
        """What the daemon says to a worker until it leaves."""
        self._control.send(self._codec.pack([2, "init", [{"app": NAME}]]))
        request = self._codec.pack([0, 1, "execute", [{"target": NAME, "deadline_ns": 1 << 62, "args": [1]}]])
        self._calls.send(LENGTH.pack(len(request)) + request)
        self._calls.shutdown(_socket.SHUT_WR)


@contextlib.contextmanager
def _variable_kept() -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _close_all(fds: List[int]) -> None:
    """Those that are still open."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _answer(value: int) -> int:
    return value
