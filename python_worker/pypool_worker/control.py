"""The control channel of a worker, served by a thread of its own, also while a call or an import runs."""
from __future__ import annotations

import _signal  # type: ignore[import]  # not signal, nor threading: a forked worker is to touch little of what it shares
import _socket  # not socket, which takes long to import
import _thread
import os
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NoReturn, Optional

from pypool_worker.announcement import Announcement
from pypool_worker.codec import Codec
from pypool_worker.errors import ProtocolError
from pypool_worker.output import complain
from pypool_worker.packets import Packet, Packets

TEXT_MAX = 30 * 1024  # of a traceback in a packet


class Init:
    """What the daemon wants this worker to be."""

    __slots__ = ("app", "path", "preload", "modules", "warmup", "pool", "worker", "generation", "max_reply")

    def __init__(self, fields: Dict[str, Any]) -> None:
        try:
            self.app: str = fields["app"]
            self.path: List[str] = fields.get("path") or []
            self.preload: List[str] = fields.get("preload") or []
            self.modules: List[str] = fields.get("modules") or []
            self.warmup: Optional[str] = fields.get("warmup")
            self.pool: str = fields.get("pool", "")
            self.worker: int = fields.get("worker", 0)
            self.generation: int = fields.get("generation", 0)
            self.max_reply: int = fields.get("max_reply", 0)
        except (KeyError, AttributeError) as exc:
            raise ProtocolError(f"init without {exc}") from None


class Control:
    """The worker's end. Methods are for the main thread; the thread reads, answers pings and obeys.

    A template has no such thread: its main thread reads `packets` itself.
    """

    def __init__(self, fd: int, codec: Codec, on_stop: Callable[[], None], on_forget: Callable[[int, int], None],
                 on_channel: Callable[[int, int], None],
                 on_adopt: Callable[[int, int, Callable[[int], None]], None]) -> None:
        """All are called in the thread, `on_stop` once; `on_forget` with a session and how often it was sent,
        `on_channel` with a lease and a descriptor, which is the callee's from then on, as that of `on_adopt`, called
        with a seq, a descriptor and what says hello with that seq."""
        self._socket = _socket.socket(fileno=fd)
        self._codec = codec
        self.packets = Packets(self._socket, codec)
        self._thread_codec = codec.another()
        self._thread_packets = Packets(self._socket, self._thread_codec)
        self._on_stop = on_stop
        self._on_forget = on_forget
        self._on_channel = on_channel
        self._on_adopt = on_adopt
        self._hello = _hello(codec)
        self._started_ns = 0
        self._init: Optional[Init] = None
        self._signals = _signal.valid_signals()
        self.stopping = False

    def wait_init(self) -> Optional[Init]:
        """Blocks until the daemon says what to be; None: to leave. Before start()."""
        while self._init is None and not self.stopping:
            self._serve_one()
        return None if self.stopping else self._init

    def start(self) -> None:
        """All signals stay with the main thread: an interrupt must break its system call, not the reader's."""
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._signals)
        try:
            _thread.start_new_thread(self._run, ())
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def hello(self, started_ns: int) -> None:
        self._started_ns = started_ns
        self._say_packed(self._hello.message(pid=os.getpid(), t_ns=started_ns))

    def introduce(self, started_ns: int) -> None:
        """In place of hello(), wait_init() and start(), for one of which the daemon has been told all that."""
        self._started_ns = started_ns
        self.start()

    def phase(self, name: str, module: Optional[str] = None) -> None:
        fields: Dict[str, Any] = {"name": name, "t_ns": time.monotonic_ns()}
        if module is not None:
            fields["module"] = module
        self._say("phase", fields)

    def failed(self, phase: str, failure: Dict[str, Any]) -> None:
        self._say("failed", {"phase": phase, **failure})

    def ready(self, message: bytes) -> None:
        """`message`: what an Offer has made."""
        self._say_packed(message)

    def abandon(self) -> None:
        """In a forked child: the channel belongs to the worker."""
        self._socket.detach()

    def _say(self, name: str, fields: Dict[str, Any]) -> None:
        self._say_packed(self._codec.pack([2, name, [fields]]))

    def _say_packed(self, message: bytes) -> None:
        try:
            self.packets.send_packed(message)
        except OSError as exc:
            die(exc)  # here: the application's own code may stand around this, and wait for its threads

    def _greet(self, seq: int) -> None:
        """Of the thread: hello to the daemon's successor. The main thread may be packing something with its own codec."""
        hello = _hello(self._thread_codec)
        self._thread_packets.send_packed(hello.message(pid=os.getpid(), t_ns=self._started_ns, adopted=seq))

    def _run(self) -> None:
        while True:
            self._serve_one()

    def _serve_one(self) -> None:
        try:
            packet = self._thread_packets.receive()
            if packet is None:
                os._exit(1)  # the daemon is gone, and with it whoever waits for what runs here
            try:
                self._obey(packet)
            finally:
                packet.close()
        except BaseException as exc:
            die(exc)

    def _obey(self, packet: Packet) -> None:
        name = packet.name
        if name == "ping":
            self._thread_packets.send("pong", {"seq": packet.fields.get("seq")})
        elif name == "init":
            self._init = Init(packet.fields)
        elif name == "channel":
            self._on_channel(packet.numbers("lease")[0], packet.take_fds(1)[0])
        elif name == "adopt":
            self._on_adopt(packet.numbers("seq")[0], packet.take_fds(1)[0], self._greet)
        elif name == "forget":
            self._on_forget(*packet.numbers("session", "send"))
        elif name == "stop" and not self.stopping:
            self.stopping = True
            self._on_stop()


def _hello(codec: Codec) -> Announcement:
    """As far as it is the same for all who say it."""
    hello = Announcement(codec, "hello")
    hello.add(protocol=1, python="%d.%d.%d" % sys.version_info[:3], codec=codec.name)
    return hello


def die(exc: BaseException, what: str = "the control channel") -> NoReturn:
    """Nothing can be done without it."""
    expected = isinstance(exc, (ProtocolError, OSError))
    complain(f"{what} failed: {exc if expected else traceback.format_exc()}")
    os._exit(1)
