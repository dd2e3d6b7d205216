"""A worker under test: starts a real one with the descriptors of docs/worker-protocol.md and plays the daemon."""
from __future__ import annotations

import fcntl
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type, TypeVar

import msgpack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
APPS = os.path.join(ROOT, "tests", "support", "apps")
RUN_WORKER = os.path.join(ROOT, "python_worker", "run_worker.py")
PATIENCE = 20.0
CANCELLED, DEADLINE = 1, 2

H = TypeVar("H", bound="WorkerHarness")


class Reply:
    """One response of a worker."""

    def __init__(self, message: List[Any]) -> None:
        kind, self.call, self.error, self.value, self.meta = message
        assert kind == 1
        self.code: Optional[str] = None if self.error is None else self.error["code"]
        self.message: str = "" if self.error is None else self.error["message"]


class DirectClient:
    """The client's end of a direct lease."""

    def __init__(self, sock: socket.socket, call: int) -> None:
        self.sock = sock
        self.call_number = call
        self._last_id = 0
        sock.settimeout(PATIENCE)

    def __enter__(self) -> DirectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send_raw(self, payload: bytes) -> None:
        self.sock.sendall(len(payload).to_bytes(4, "big") + payload)

    def request(self, target: Any, args: Any = None, **fields: Any) -> int:
        self._last_id += 1
        told = {"target": target, **fields}
        if args is not None:
            told["args"] = args
        self.send_raw(msgpack.packb([0, self._last_id, "execute", [told]]))
        return self._last_id

    def receive(self) -> List[Any]:
        """`[1, id, error, result]`; [] at the end."""
        head = self._exactly(4)
        if not head:
            return []
        message = msgpack.unpackb(self._exactly(int.from_bytes(head, "big")), strict_map_key=False)
        assert isinstance(message, list) and len(message) == 4 and message[0] == 1
        return message

    def call(self, target: Any, *args: Any, **fields: Any) -> Any:
        """The result. An error is an AssertionError."""
        sent = self.request(target, list(args), **fields)
        _, number, error, result = self.receive()
        assert (number, error) == (sent, None)
        return result

    def error(self, target: Any, *args: Any, **fields: Any) -> Dict[str, Any]:
        sent = self.request(target, list(args), **fields)
        _, number, error, result = self.receive()
        assert number == sent and error is not None and result is None
        return dict(error)

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = self.sock.recv(size - len(got))
            if not piece:
                break
            got += piece
        return bytes(got)


class WorkerHarness:
    """Use it as a context manager: nothing is left behind."""

    def __init__(self, app: str = "nasty", *, path: Sequence[str] = (APPS,), modules: Sequence[str] = (),
                 preload: Sequence[str] = (), warmup: Optional[str] = None, python: str = sys.executable,
                 run_worker: str = RUN_WORKER, arguments: Sequence[str] = (),
                 max_reply: int = 64 << 20, environment: Optional[Dict[str, str]] = None) -> None:
        self._init = {"app": app, "path": list(path), "preload": list(preload), "modules": list(modules),
                      "warmup": warmup, "pool": "test", "worker": 1, "generation": 1, "max_reply": max_reply}
        self._argv = [python, run_worker, *arguments]
        self._environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
        self._last_call = 0
        self._output: Dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.status: Optional[int] = None
        self.former: List[socket.socket] = []  # our ends of the call channels before the last adoption

    def __enter__(self: H) -> H:
        self._calls, calls = socket.socketpair()
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._dump, dump = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        page = os.memfd_create("page")
        os.truncate(page, mmap.PAGESIZE)
        self._page = mmap.mmap(page, mmap.PAGESIZE)
        out, err = os.pipe(), os.pipe()
        self._spawn([out[1], err[1], calls.detach(), control.detach(), dump, page])
        self._readers = [self._collect("stdout", out[0]), self._collect("stderr", err[0])]
        self._calls.settimeout(PATIENCE)
        self.control.settimeout(PATIENCE)
        return self

    def __exit__(self, _kind: Optional[Type[BaseException]], _exc: Optional[BaseException],
                 _tb: Optional[TracebackType]) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for sock in (self._calls, self.control, *self.former):
            sock.close()
        os.close(self._dump)
        os.close(self._pidfd)

    # Life

    def start(self) -> List[str]:
        """To ready. Returns the targets."""
        name, fields = self.init()
        assert name == "ready", (name, fields, self.stderr())
        return list(fields["targets"])

    def init(self) -> Tuple[str, Dict[str, Any]]:
        """Sends init and returns ready or failed; what came before stands in `hello` and `phases`."""
        self.hello = self.expect("hello")
        self.send_init()
        return self.outcome()

    def send_init(self) -> None:
        self.send_control("init", self._init)

    def outcome(self) -> Tuple[str, Dict[str, Any]]:
        """Ready or failed, when init has been sent."""
        self.phases: List[Dict[str, Any]] = []
        while True:
            name, fields = self.receive_control()
            if name != "phase":
                self.told = fields
                return name, fields
            self.phases.append(fields)

    def wait(self) -> int:
        """The exit code, negative for a signal. All output has been read then, unless a grandchild holds it."""
        assert select.select([self._pidfd], [], [], PATIENCE)[0], "the worker does not exit"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for reader in self._readers:
            reader.join(5.0)
        return self.status

    def stop(self) -> int:
        self.send_control("stop", {})
        return self.wait()

    # Control

    def send_control(self, name: str, fields: Dict[str, Any]) -> None:
        self.control.send(msgpack.packb([2, name, [fields]]))

    def receive_control(self) -> Tuple[str, Dict[str, Any]]:
        packet = self.control.recv(65536)
        assert packet, f"control closed; stderr: {self.stderr()}"
        kind, name, params = msgpack.unpackb(packet)
        assert kind == 2
        return name, params[0]

    def expect(self, name: str) -> Dict[str, Any]:
        came, fields = self.receive_control()
        assert came == name, (came, fields, self.stderr())
        return fields

    def fence(self) -> None:
        """Returns when the control thread is done with all that was sent to it before."""
        self.send_control("ping", {"seq": 0xfe9ce})
        assert self.expect("pong") == {"seq": 0xfe9ce}

    # Calls

    def send_raw(self, payload: bytes) -> None:
        self._calls.sendall(len(payload).to_bytes(4, "big") + payload)

    def send_part(self, stream: bytes) -> None:
        self._calls.sendall(stream)

    def close_calls(self) -> None:
        self._calls.shutdown(socket.SHUT_RDWR)

    def request(self, target: Any, args: Any = None, **fields: Any) -> int:
        """Sends a call without waiting. Returns its number."""
        self._last_call += 1
        told = {"target": target, **fields}
        if args is not None:
            told["args"] = args
        self.send_raw(msgpack.packb([0, self._last_call, "execute", [told]]))
        return self._last_call

    def receive(self) -> Reply:
        size = int.from_bytes(self._receive_exactly(4), "big")
        return Reply(msgpack.unpackb(self._receive_exactly(size), strict_map_key=False))

    def reply_is_there(self) -> bool:
        return bool(select.select([self._calls], [], [], 0)[0])

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Reply:
        sent = self.request(target, kwargs or list(args))
        reply = self.receive()
        assert reply.call == sent
        return reply

    def in_session(self, target: str, *args: Any, number: int = 1, name: str = "s", send: int = 1, bound: bool = True,
                   values: Optional[Dict[str, Any]] = None) -> Reply:
        sent = self.request(target, list(args), session=session(number, name, send, bound, values))
        reply = self.receive()
        assert reply.call == sent
        return reply

    def close_session(self, number: int = 1, name: str = "s", values: Optional[Dict[str, Any]] = None) -> Reply:
        self._last_call += 1
        told = {"session": session(number, name, 2, values=values)}
        self.send_raw(msgpack.packb([0, self._last_call, "session_close", [told]]))
        reply = self.receive()
        assert reply.call == self._last_call
        return reply

    # Direct leases

    def send_fds(self, name: str, fields: Dict[str, Any], fds: Sequence[int]) -> None:
        """A control packet with descriptors, of which the worker gets copies."""
        socket.send_fds(self.control, [msgpack.packb([2, name, [fields]])], list(fds))

    def direct(self, lease: int = 1) -> DirectClient:
        """A lease; when it is over, `receive()` has the answer to `call` of what is returned."""
        ours, theirs = socket.socketpair()
        self.send_fds("channel", {"lease": lease}, [theirs.fileno()])
        theirs.close()
        self._last_call += 1
        self.send_raw(msgpack.packb([0, self._last_call, "direct", [{"lease": lease}]]))
        return DirectClient(ours, self._last_call)

    # Another daemon process

    def adopt(self, seq: int = 1) -> None:
        """Up to the worker's hello. Calls go to the new channel from now on; of the old one `former` has our end."""
        self.offer_adoption(seq)
        hello = self.expect("hello")
        self.hello.setdefault("t_ns", hello["t_ns"])  # one that goes on at once says it for the first time
        assert hello == {**self.hello, "adopted": seq}

    def offer_adoption(self, seq: int) -> None:
        ours, theirs = socket.socketpair()
        self.send_fds("adopt", {"seq": seq}, [theirs.fileno()])
        theirs.close()
        ours.settimeout(PATIENCE)
        self.former.append(self._calls)
        self._calls = ours

    def expect_ready(self, seq: int = 1) -> None:
        """The worker has taken the new channel, and offers what it did."""
        assert self.expect("ready") == {**self.told, "adopted": seq}

    # What the daemon does to a running call

    def interrupt(self, call: int, reason: int) -> None:
        self.set_page(call, reason)
        signal.pidfd_send_signal(self._pidfd, signal.SIGUSR1)

    def set_page(self, call: int, reason: int) -> None:
        self._page[8:16] = struct.pack("Q", reason)
        self._page[:8] = struct.pack("Q", call)

    def dump(self) -> Tuple[str, float]:
        """The stack, and the seconds it took to come whole.

        Asks again after an empty one: a signal that comes while faulthandler still leaves the last dump brings none.
        """
        text = b""
        while b"File" not in text:
            text, began = b"", time.perf_counter()
            signal.pidfd_send_signal(self._pidfd, signal.SIGUSR2)
            while not text.endswith(b"\x0c"):
                assert select.select([self._dump], [], [], PATIENCE)[0], text
                text += os.read(self._dump, 65536)
        return text.decode(), time.perf_counter() - began

    def last_dump(self) -> str:
        """What lies in the dump pipe when the process is dead."""
        return os.read(self._dump, 65536).decode()

    def wait_for_frame(self, function: str) -> None:
        """Until the main thread is inside that function."""
        end = time.monotonic() + PATIENCE
        while f" in {function}\n" not in self.dump()[0]:
            assert time.monotonic() < end, f"the worker never came to {function}"

    def wait_until_blocked(self, function: str) -> None:
        """Until the main thread is inside that function and asleep in the kernel."""
        self.wait_for_frame(function)
        end = time.monotonic() + PATIENCE
        while self._state() != "S":
            assert time.monotonic() < end, f"the worker never blocked in {function}"

    def stdout(self) -> str:
        return self._output["stdout"].decode()

    def stderr(self) -> str:
        return self._output["stderr"].decode()

    def wait_for_output(self, name: str, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self._output[name].decode(errors="replace"):
            assert time.monotonic() < end, self._output
            select.select([self._pidfd], [], [], 0.001)

    def open_fds(self) -> Dict[int, str]:
        base = f"/proc/{self.pid}/fd"
        return {int(fd): os.readlink(f"{base}/{fd}").split(":")[0] for fd in os.listdir(base)}

    def _state(self) -> str:
        with open(f"/proc/{self.pid}/task/{self.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]

    def _receive_exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = self._calls.recv(min(size - len(got), 1 << 20))
            assert piece, f"the call channel closed; stderr: {self.stderr()}"
            got += piece
        return bytes(got)

    def _spawn(self, fds: Sequence[int]) -> None:
        """`fds` become 1 to 6; they are moved out of the way first, and closed here afterwards."""
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        actions: List[Tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(high, 1)]
        self.pid = os.posix_spawn(self._argv[0], self._argv, self._environment, file_actions=actions, setpgroup=0)
        self._pidfd = os.pidfd_open(self.pid)
        for fd in [*fds, *high]:
            os.close(fd)

    def _collect(self, name: str, fd: int) -> threading.Thread:
        def run() -> None:
            with open(fd, "rb", buffering=0) as pipe:
                while piece := pipe.read(65536):
                    self._output[name].extend(piece)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def session(number: int = 1, name: str = "s", send: int = 1, bound: bool = True,
            values: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """The key `session` of a call. values: None when the worker's copy is current."""
    told: Dict[str, Any] = {"id": number, "name": name, "send": send, "bound": bound}
    if values is not None:
        told["values"] = values
    return told


def install_worker(directory: str) -> str:
    """A copy of python_worker/ with its fallback filled, as the build makes one. Returns the path of run_worker.py."""
    source = os.path.join(ROOT, "python_worker")
    target = os.path.join(directory, "python_worker")
    shutil.copytree(os.path.join(source, "pypool_worker"), os.path.join(target, "pypool_worker"))
    shutil.copyfile(os.path.join(source, "run_worker.py"), os.path.join(target, "run_worker.py"))
    sys.path.insert(0, source)
    try:
        from fill_fallback import fill
    finally:
        sys.path.remove(source)
    fill(os.path.join(target, "fallback"))
    return os.path.join(target, "run_worker.py")
