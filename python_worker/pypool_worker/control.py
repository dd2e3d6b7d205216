"""The control channel: one message a packet, served by a thread of its own, also while a call or an import runs."""
from __future__ import annotations

import _socket  # not socket, which takes long to import
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from pypool_worker.codec import Codec
from pypool_worker.errors import ProtocolError
from pypool_worker.output import complain

PACKET_MAX = 64 * 1024
TEXT_MAX = 30 * 1024  # of a traceback in a packet
TARGETS_MAX = 1000
FD_SIZE = 4
FDS_ROOM = _socket.CMSG_SPACE(4 * FD_SIZE)  # one is expected: more are seen, and closed


class Init:
    """What the daemon wants this worker to be."""

    __slots__ = ("app", "path", "modules", "warmup", "pool", "worker", "generation", "max_reply")

    def __init__(self, fields: Dict[str, Any]) -> None:
        try:
            self.app: str = fields["app"]
            self.path: List[str] = fields.get("path") or []
            self.modules: List[str] = fields.get("modules") or []
            self.warmup: Optional[str] = fields.get("warmup")
            self.pool: str = fields.get("pool", "")
            self.worker: int = fields.get("worker", 0)
            self.generation: int = fields.get("generation", 0)
            self.max_reply: int = fields.get("max_reply", 0)
        except (KeyError, AttributeError) as exc:
            raise ProtocolError(f"init without {exc}") from None


class Control:
    """The worker's end. Methods are for the main thread; the thread reads, answers pings and obeys."""

    def __init__(self, fd: int, codec: Codec, on_stop: Callable[[], None], on_forget: Callable[[int, int], None],
                 on_channel: Callable[[int, int], None]) -> None:
        """All are called in the thread, `on_stop` once; `on_forget` with a session and how often it was sent,
        `on_channel` with a lease and a descriptor, which is the callee's from then on."""
        self._fd = fd
        self._socket = _socket.socket(fileno=fd)
        self._codec = codec
        self._thread_codec = codec.another()
        self._on_stop = on_stop
        self._on_forget = on_forget
        self._on_channel = on_channel
        self._init: Optional[Init] = None
        self._news = threading.Event()
        self.stopping = False

    def start(self) -> None:
        """All signals stay with the main thread: an interrupt must break its system call, not the reader's."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            threading.Thread(target=self._run, name="pypool-control", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait_init(self) -> Optional[Init]:
        """Blocks until the daemon says what to be; None: to leave."""
        self._news.wait()
        return None if self.stopping else self._init

    def hello(self, started_ns: int, python: str) -> None:
        self._send(self._codec, "hello", {"protocol": 1, "pid": os.getpid(), "python": python,
                                          "codec": self._codec.name, "t_ns": started_ns})

    def phase(self, name: str, module: Optional[str] = None) -> None:
        fields: Dict[str, Any] = {"name": name, "t_ns": time.monotonic_ns()}
        if module is not None:
            fields["module"] = module
        self._send(self._codec, "phase", fields)

    def failed(self, phase: str, failure: Dict[str, Any]) -> None:
        self._send(self._codec, "failed", {"phase": phase, **failure})

    def ready(self, targets: List[str], idempotent: List[str], session_close: bool) -> None:
        """More targets than a packet holds are left out of the lists; they can be called nevertheless."""
        again = _fitting(idempotent, PACKET_MAX // 2)
        listed = _fitting(targets, PACKET_MAX - 200 - _size(again))
        self._send(self._codec, "ready", {"targets": listed, "idempotent": again, "session_close": session_close,
                                          "t_ns": time.monotonic_ns()})

    def abandon(self) -> None:
        """In a forked child: the channel belongs to the worker."""
        self._fd = -1
        self._socket.detach()

    def _send(self, codec: Codec, name: str, fields: Dict[str, Any]) -> None:
        os.write(self._fd, codec.pack([2, name, [fields]]))

    def _run(self) -> None:
        try:
            while True:
                packet, ancillary, flags, _ = self._socket.recvmsg(PACKET_MAX, FDS_ROOM, _socket.MSG_CMSG_CLOEXEC)
                if not packet:
                    os._exit(1)  # the daemon is gone, and with it whoever waits for what runs here
                fds = _descriptors(ancillary)
                try:
                    self._obey(packet, fds, bool(flags & _socket.MSG_CTRUNC))
                finally:
                    for fd in fds:  # those that nobody took
                        os.close(fd)
        except BaseException as exc:
            _die(exc)

    def _obey(self, packet: bytes, fds: List[int], cut: bool) -> None:
        """Takes out of `fds` what it keeps. `cut`: there were more."""
        try:
            kind, name, params = self._thread_codec.unpack(packet)
            fields: Dict[str, Any] = params[0] if params else {}
        except (ValueError, TypeError, IndexError, KeyError):
            raise ProtocolError("a control packet that is no notification") from None
        if kind == 2 and name == "ping":
            self._send(self._thread_codec, "pong", {"seq": fields.get("seq")})
        elif kind == 2 and name == "init":
            self._init = Init(fields)
            self._news.set()
        elif kind == 2 and name == "channel":
            lease = _numbers(fields, "lease")[0]
            if len(fds) != 1 or cut:
                more = " and more" if cut else ""
                raise ProtocolError(f"a channel with {len(fds)}{more} descriptors in place of one")
            self._on_channel(lease, fds.pop())
        elif kind == 2 and name == "forget":
            self._on_forget(*_numbers(fields, "session", "send"))
        elif kind == 2 and name == "stop" and not self.stopping:
            self.stopping = True
            self._on_stop()
            self._news.set()


def _die(exc: BaseException) -> NoReturn:
    expected = isinstance(exc, (ProtocolError, OSError))
    complain(f"the control channel failed: {exc if expected else traceback.format_exc()}")
    os._exit(1)


def _descriptors(ancillary: List[Tuple[int, int, bytes]]) -> List[int]:
    found = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for at in range(0, len(data) - FD_SIZE + 1, FD_SIZE):
                found.append(int.from_bytes(data[at:at + FD_SIZE], sys.byteorder))
    return found


def _numbers(fields: Dict[str, Any], *keys: str) -> List[int]:
    found = [fields.get(key) for key in keys]
    if any(type(number) is not int for number in found):
        raise ProtocolError(f"a control packet without {' and '.join(keys)}")
    return found  # type: ignore[return-value]  # mypy does not see what any() has seen


def _size(names: List[str]) -> int:
    return sum(len(name.encode()) + 5 for name in names)


def _fitting(names: List[str], size: int) -> List[str]:
    """As many of them as have room."""
    listed = names[:TARGETS_MAX]
    while _size(listed) > size:
        listed = listed[:len(listed) // 2]
    return listed
