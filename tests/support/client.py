"""A small MessagePack-RPC client that can also misbehave.

It is written against docs/protocol.md, not against libpypool, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import msgpack

Framing = Literal["prefixed", "bare"]


class CallError(Exception):
    """An error reply: `code`, `message`, `executed`, and all of it as `fields` (or the string, before hello)."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.raw = error
        self.fields: dict[str, Any] = error if isinstance(error, dict) else {}
        self.code: str = self.fields.get("code") or str(error).partition(":")[0]
        self.message: str = self.fields.get("message") or str(error)
        self.executed: str | None = self.fields.get("executed")
        self.cause: dict[str, Any] = self.fields.get("cause") or {}


class ConnectionEnded(Exception):
    """The daemon closed the connection."""


class ReplyTimeout(AssertionError):
    """No reply within the test's own patience."""


class Reply(NamedTuple):
    id: int | None
    error: Any
    result: Any

    def value(self) -> Any:
        """The result; raises CallError for an error."""
        if self.error is not None:
            raise CallError(self.error)
        return self.result


def pack(message: Any) -> bytes:
    """One encoded value."""
    data = msgpack.packb(message, use_bin_type=True)
    assert isinstance(data, bytes)
    return data


class Client:
    """One connection, to a path or over a socket that is connected. Says hello on its own unless told not to. All waiting
    has a deadline (`timeout` seconds)."""

    def __init__(
        self,
        path: str | Path | socket.socket,
        *,
        framing: Framing = "prefixed",
        hello: bool = True,
        timeout: float = 20.0,
    ) -> None:
        self.framing = framing
        self.timeout = timeout
        self.sock = path if isinstance(path, socket.socket) else self._connect(path)
        self.fds: deque[int] = deque()  # received and not taken, in order
        self.replies: dict[int | None, deque[Reply]] = {}
        self.order: list[int | None] = []  # ids in the order in which their replies came
        self.notifications: deque[tuple[str, Any]] = deque()
        self._buffer = bytearray()
        self._bare = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=2**31 - 1)
        self._next_id = 1
        self.hello: dict[str, Any] = {}
        if hello:
            try:
                self.hello = self.call("hello", protocol=1, client="test")
            except BaseException:
                self.close()
                raise

    @staticmethod
    def _connect(path: str | Path) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            raise
        return sock

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both ways; to the daemon this is a cancel of all that is in flight."""
        self.sock.close()
        while self.fds:
            os.close(self.fds.popleft())

    def shutdown_write(self) -> None:
        """Say that no more requests come; replies still do."""
        self.sock.shutdown(socket.SHUT_WR)

    # ---- out

    def frame(self, body: bytes) -> bytes:
        """The bytes of a message in this connection's framing."""
        return struct.pack(">I", len(body)) + body if self.framing == "prefixed" else body

    def send_bytes(self, data: bytes) -> None:
        """Raw bytes, as they are. Blocks while the daemon does not read, up to `timeout`."""
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def send(self, message: Any) -> None:
        """One message in this connection's framing."""
        self.send_bytes(self.frame(pack(message)))

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def start(self, method: str, **params: Any) -> int:
        """Send a request and return its id; `wait(id)` has the reply."""
        number = self.new_id()
        self.send([0, number, method, [params] if params else []])
        return number

    def start_execute(self, target: str, *args: Any, kw: dict[str, Any] | None = None, **options: Any) -> int:
        """Send an execute. `args` positional or `kw` keywords; options such as pool, timeout_ms."""
        params: dict[str, Any] = {"target": target, **options}
        if kw is not None:
            params["args"] = kw
        elif args:
            params["args"] = list(args)
        return self.start("execute", **params)

    def notify(self, method: str, **params: Any) -> None:
        self.send([2, method, [params]])

    # ---- in

    def wait(self, number: int | None, timeout: float | None = None) -> Reply:
        """The reply to the request `number` (None: an error about a frame that could not be read)."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.replies.get(number):
            self._take(self._message(deadline, f"no reply to {number}"))
        return self.replies[number].popleft()

    def wait_any(self, timeout: float | None = None) -> Reply:
        """The next reply to come, whichever it is; call it only when no other is kept."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        before = len(self.order)
        while len(self.order) == before:
            self._take(self._message(deadline, "no reply"))
        return self.replies[self.order[-1]].pop()

    def wait_notification(self, timeout: float | None = None) -> tuple[str, Any]:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.notifications:
            self._take(self._message(deadline, "no notification"))
        return self.notifications.popleft()

    def wait_closed(self, timeout: float | None = None) -> None:
        """Read until the daemon closes. Replies that still come are kept."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        try:
            while True:
                self._take(self._message(deadline, "the connection is still open"))
        except ConnectionEnded:
            return

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for that long: the only way to see that no message is sent."""
        ready, _, _ = select.select([self.sock], [], [], seconds)
        return not ready

    def _take(self, message: Any) -> None:
        if message[0] == 1:
            assert len(message) == 4, f"a response has 4 elements: {message!r}"
            reply = Reply(message[1], message[2], message[3])
            self.order.append(reply.id)
            self.replies.setdefault(reply.id, deque()).append(reply)
        elif message[0] == 2:
            self.notifications.append((message[1], message[2]))
        else:
            raise AssertionError(f"the daemon sent {message!r}")

    def _message(self, deadline: float, what: str) -> Any:
        while True:
            found, message = self._parse()
            if found:
                return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise ReplyTimeout(what)
            self.sock.settimeout(left)
            try:
                data = self._receive()
            except socket.timeout:
                raise ReplyTimeout(what) from None
            except ConnectionResetError as e:
                raise ConnectionEnded(str(e)) from e
            if not data:
                raise ConnectionEnded("end of file")
            if self.framing == "prefixed":
                self._buffer += data
            else:
                self._bare.feed(data)

    def _receive(self) -> bytes:
        data, ancillary, flags, _ = self.sock.recvmsg(1 << 20, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
        assert not flags & socket.MSG_CTRUNC, "more fds came than a reply can bring"
        for level, kind, content in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds = array.array("i")
            fds.frombytes(content)
            self.fds.extend(fds)
        return data

    def take_socket(self) -> socket.socket:
        """The socket that came with a reply: the first that nobody has taken."""
        return socket.socket(fileno=self.fds.popleft())

    def _parse(self) -> tuple[bool, Any]:
        if self.framing == "bare":
            try:
                return True, self._bare.unpack()
            except msgpack.OutOfData:
                return False, None
        if len(self._buffer) < 4:
            return False, None
        (length,) = struct.unpack_from(">I", self._buffer)
        if len(self._buffer) < 4 + length:
            return False, None
        body = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return True, msgpack.unpackb(body, raw=False, strict_map_key=False)

    # ---- both

    def call(self, method: str, **params: Any) -> Any:
        """A request and its result. Raises CallError, ReplyTimeout, ConnectionEnded."""
        return self.wait(self.start(method, **params)).value()

    def execute(self, target: str, *args: Any, kw: dict[str, Any] | None = None, **options: Any) -> Any:
        """Call a handler and return its value. Raises CallError, ReplyTimeout, ConnectionEnded."""
        return self.wait(self.start_execute(target, *args, kw=kw, **options)).value()

    def fail(self, method: str, **params: Any) -> CallError:
        """A request that must fail: the error. Raises AssertionError when it succeeds."""
        return self.wait_error(self.start(method, **params))

    def fail_execute(self, target: str, *args: Any, kw: dict[str, Any] | None = None, **options: Any) -> CallError:
        """A call that must fail: the error. Raises AssertionError when it succeeds."""
        return self.wait_error(self.start_execute(target, *args, kw=kw, **options))

    def wait_error(self, number: int | None, timeout: float | None = None) -> CallError:
        reply = self.wait(number, timeout)
        assert reply.error is not None, f"succeeded with {reply.result!r}"
        return CallError(reply.error)
