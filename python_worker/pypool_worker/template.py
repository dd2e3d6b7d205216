"""A template: loads the application once, and forks workers that have it. It has one thread, which reads control."""
from __future__ import annotations

import errno
import gc
import os
import select
import struct
import threading
import time
from typing import TYPE_CHECKING, Callable, List, NoReturn, Optional, Tuple

from pypool_worker.audit import (closed_descriptors, explain_threads, is_single_threaded, open_descriptors,
                                 other_threads, spare_descriptors)
from pypool_worker.bootstrap import Bootstrap, InitFailed
from pypool_worker.control import Init, die
from pypool_worker.errors import ProtocolError
from pypool_worker.failure import safe_text
from pypool_worker.filling import fill_gaps
from pypool_worker.forking import choose_fork, fork_once
from pypool_worker.generator import Generator
from pypool_worker.offer import Offer
from pypool_worker.output import complain, flush_output, flushes
from pypool_worker.packets import PACKET_MAX, Packet, fitting
from pypool_worker.parts import CONTROL, PAGE, Parts
from pypool_worker.rebirth import Rebirth
from pypool_worker.registry import registry
from pypool_worker.service import Service
from pypool_worker.targets import Targets

if TYPE_CHECKING:
    from pypool_worker.native import Native

WORKER_FDS = 6
# Number of a worker, time of its birth, and whether it goes on at once: it needs no init, and the daemon no hello. Not a
# class: that would be made by many steps.
Birth = Tuple[int, int, bool]
# What a `fork` says: the number of the worker, its mark, whether it outlives the daemon and whether it goes on at once; then
# the descriptors, which are for whoever has it to close; none: there was no room for them.
Order = Tuple[int, int, bool, bool, List[int]]
AT_ONCE = 8  # orders
DESCRIPTORS_KEPT = 10  # for a fork itself, and for what the application may open meanwhile
REASON_MAX = 1000
# [2, "forked", [{"worker": ..., "pid": ...}]], packed by hand: it is sent between two forks, when each page counts
FORKED = struct.Struct(">19sQ5sQ")
FORKED_WORKER, FORKED_PID = b"\x93\x02\xa6forked\x91\x82\xa6worker\xcf", b"\xa3pid\xcf"


class Template:
    """Its life, from hello to its end, and the birth of each worker.

    `bootstrap`, `service`: what each worker goes on with.
    """

    bootstrap: Bootstrap
    service: Service

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._packets = parts.control.packets
        self._rebirth = Rebirth(parts, os.getppid())
        self._inherited = open_descriptors(above=PAGE)
        self._native: Optional[Native] = None
        self._generator: Optional[Generator] = None
        self._orders: List[Order] = []
        self._at_once = 1
        self._poll = select.poll()
        self._poll.register(CONTROL, select.POLLIN)
        self._next: Optional[Packet] = None  # has come, and is still to be looked at
        self._flushes: List[Callable[[], object]] = []
        self._way = "double"
        self._fork: Callable[[], int] = _cannot_fork

    def run(self, started_ns: int) -> Birth:
        """Blocks. Comes back in each worker that was forked; the template itself ends in here."""
        try:
            self._parts.control.hello(started_ns)
            targets = self._load()
            self._parts.guard.lifted = True
            self._get_ready(targets)
            return self._serve()
        except BaseException as exc:
            die(exc, "the template")

    def _load(self) -> Targets:
        packet = self._expect("init")
        packet.close()
        init = Init(packet.fields)
        self.bootstrap = Bootstrap(init, self._parts.control, registry)
        try:
            targets = self.bootstrap.load()
        except InitFailed:
            _leave(1)
        assert targets is not None, "nobody reads meanwhile what could say stop"
        self.service = Service(self._parts, init, targets)
        return targets

    def _get_ready(self, targets: Targets) -> None:
        unfit = self._settle()
        opened = {fd: what for fd, what in open_descriptors(above=PAGE).items() if self._inherited.get(fd) != what}
        if self._native is not None:
            self._parts.map_page_by(self._native)
            self._rebirth.prepare(self._native, opened)
            self._flushes = [*flushes(), self._native.flush_stdio]
            self._rehearse()
        gc.collect()
        if unfit is None:
            fill_gaps()
            self._at_once = max(1, min(AT_ONCE, (spare_descriptors() - DESCRIPTORS_KEPT) // WORKER_FDS))
        gc.freeze()  # a collection in a worker would write to, and so copy, all that it shares with the others
        told = [safe_text(f"{fd}: {what}", REASON_MAX) for fd, what in opened.items()]
        offer = Offer(self._parts.codec, targets.names(), targets.idempotent(), fork=self._way,
                      unfit=unfit and safe_text(unfit, REASON_MAX), fds=fitting(told, PACKET_MAX // 8))
        self._parts.control.ready(offer.message(bool(registry.session_close_hooks), None))

    def _rehearse(self) -> None:
        from pypool_worker.rehearsal import rehearse  # here: it needs ctypes

        try:
            rehearse(self._parts.codec)
        except Exception as exc:
            complain(f"workers will need more memory than they could, since the template cannot prepare for them: {exc}")
        self._parts.dump.renew()

    def _settle(self) -> Optional[str]:
        """Finds out how to fork. Returns why this process must not be forked, if so."""
        try:
            if threading.active_count() == 1 and not is_single_threaded():
                fork_once()
            names = other_threads()
            if names:
                return explain_threads(names)
            closed = closed_descriptors(range(1, PAGE + 1))
            if closed:
                return f"the application has closed descriptors that are pypoold's: {', '.join(map(str, closed))}"
            from pypool_worker.native import Native  # here: there are Pythons without ctypes

            self._native = Native()
            self._generator = Generator(self._native)
            self._way, self._fork = choose_fork(self._native)
        except ImportError as exc:
            return f"this Python cannot import ctypes: {exc}"
        except OSError as exc:
            return f"it cannot be forked: {exc}"
        return None

    def _serve(self) -> Birth:
        """Returns in each worker that was forked."""
        while True:
            orders = self._orders = self._take_orders()  # kept: a worker that threw them away would write to where they lie
            while orders:
                worker, mark, outlive, goes, fds = orders.pop()
                if self._give_birth(worker, bool(fds)):
                    born_ns = time.monotonic_ns()
                    _close_all(orders)
                    self._rebirth.become_worker(worker, mark, outlive, fds)
                    self._parts.guard.lifted = False
                    return worker, born_ns, goes
                _close(fds)
                if self._generator is not None:
                    self._generator.renew()

    def _take_orders(self) -> List[Order]:
        """Waits for one, and takes those that have come as well: what is written to between two forks is paid for by copies.
        The last one comes first."""
        orders = [_take_order(self._expect("fork"))]
        while len(orders) < self._at_once and self._has_come("fork"):
            orders.append(_take_order(self._expect("fork")))
        orders.reverse()
        return orders

    def _give_birth(self, worker: int, whole: bool) -> bool:
        """True in the child. The daemon has been answered else. `whole`: its descriptors have come."""
        self._flush()
        try:
            if not whole:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if not self._is_alone():
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
            pid = self._fork()
        except OSError as exc:
            self._packets.send("forked", {"worker": worker, "errno": exc.errno or errno.EAGAIN})
            return False
        if pid:
            self._packets.send_packed(FORKED.pack(FORKED_WORKER, worker, FORKED_PID, pid))
        return pid == 0

    def _flush(self) -> None:
        """What is still in a buffer would be written by the child again."""
        for flush in self._flushes:
            try:
                flush()
            except BaseException:
                pass  # its stream is closed, or user code

    def _is_alone(self) -> bool:
        return self._native is not None and self._native.is_alone() or is_single_threaded()

    def _has_come(self, name: str) -> bool:
        """Whether the next one is there, and of that name. It stays the next one."""
        if self._next is None and self._poll.poll(0):
            self._next = self._packets.receive()
        return self._next is not None and self._next.name == name

    def _expect(self, name: str) -> Packet:
        """The next one of that name. Exits when told to stop, or when the daemon is gone."""
        while True:
            packet, self._next = self._next or self._packets.receive(), None
            if packet is None:
                os._exit(1)
            if packet.name == name:
                return packet
            packet.close()
            if packet.name == "ping":
                self._packets.send("pong", {"seq": packet.fields.get("seq")})
            elif packet.name == "stop":
                _leave(0)
            elif packet.name == "adopt":
                raise ProtocolError("a template goes with its daemon, and is not adopted")


def _take_order(packet: Packet) -> Order:
    try:
        worker, mark = packet.numbers("worker", "mark")
        fds = [] if packet.lacks_fds(WORKER_FDS) else packet.take_fds(WORKER_FDS)
        return worker, mark, packet.flag("outlive"), packet.flag("go"), fds
    finally:
        packet.close()


def _close_all(orders: List[Order]) -> None:
    for order in orders:
        _close(order[-1])


def _close(fds: List[int]) -> None:
    for fd in fds:
        os.close(fd)


def _cannot_fork() -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _leave(code: int) -> NoReturn:
    """Without exit functions: what those would remove is still in use by the workers."""
    flush_output()
    os._exit(code)
