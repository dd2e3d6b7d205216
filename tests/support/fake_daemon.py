"""A daemon of the test's own making: scripts in a thread, one for each connection, one after the other."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

HELLO = {"protocol": 1, "version": "0.0.0", "max_frame": 1 << 20, "features": [], "role": "admin", "pools": ["default"]}
PATIENCE = 20.0


class Peer:
    """The daemon's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self._pairs: list[socket.socket] = []

    def close(self) -> None:
        for sock in (self.sock, *self._pairs):
            sock.close()

    def pair(self) -> tuple[socket.socket, Peer]:
        """A socket to be sent, and its other end; both are closed with this one."""
        sent, kept = socket.socketpair()
        self._pairs += (sent, kept)
        return sent, Peer(kept)

    def read_bytes(self, n: int) -> bytes:
        """Exactly so many bytes; b"" at the end of the stream."""
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                return b""
            data += more
        return data

    def receive(self) -> list[Any]:
        """The next message; [] at the end of the stream."""
        head = self.read_bytes(4)
        if not head:
            return []
        message = msgpack.unpackb(self.read_bytes(struct.unpack(">I", head)[0]), raw=False, strict_map_key=False)
        assert isinstance(message, list)
        return message

    def request(self, method: str) -> tuple[int, dict[str, Any]]:
        """The id and the params of the next request, which must be for this method."""
        message = self.receive()
        assert len(message) == 4 and message[0] == 0 and message[2] == method, f"expected {method}: {message!r}"
        return message[1], message[3][0]

    def send_body(self, body: bytes) -> None:
        self.sock.sendall(struct.pack(">I", len(body)) + body)

    def send(self, message: Any) -> None:
        self.send_body(msgpack.packb(message, use_bin_type=True))

    def answer(self, number: int | None, result: Any = None, error: Any = None) -> None:
        self.send([1, number, error, result])

    def answer_with(self, number: int, result: Any, *sockets: socket.socket) -> None:
        """With these sockets, which come with the first byte and are closed here."""
        body = msgpack.packb([1, number, None, result], use_bin_type=True)
        socket.send_fds(self.sock, [struct.pack(">I", len(body)) + body], [sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()

    def lend(self, lease: int, **changes: Any) -> Peer:
        """Answer a direct checkout; the worker's end of its socket."""
        number, params = self.request("checkout")
        assert params["direct"] is True
        client, worker = self.pair()
        answer = {"lease": lease, "worker": 3, "pid": 812, "generation": 1, "expires_ms": 60000, "fds": 1, **changes}
        self.answer_with(number, answer, client)
        return worker

    def greet(self, **changes: Any) -> dict[str, Any]:
        """Answer hello; its params."""
        number, params = self.request("hello")
        self.answer(number, {**HELLO, **changes})
        return params

    def wait_end(self) -> None:
        assert self.receive() == [], "the client goes on"


Script = Callable[[Peer], None]


class FakeDaemon:
    """Runs one script per connection, in order. What fails in a script fails the test when close() is called."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(path))
        self._listener.listen(8)
        self._listener.settimeout(PATIENCE)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(scripts,), daemon=True)
        self._thread.start()

    def _run(self, scripts: tuple[Script, ...]) -> None:
        try:
            for script in scripts:
                sock, _ = self._listener.accept()
                peer = Peer(sock)
                try:
                    script(peer)
                finally:
                    peer.close()
        except BaseException as e:  # shown by close()
            self._error = e

    def close(self) -> None:
        """Wait for the scripts to end. Raises what went wrong in one."""
        self._thread.join(PATIENCE)
        alive = self._thread.is_alive()
        self._listener.close()
        if self._error is not None:
            raise self._error
        assert not alive, "a script of the fake daemon has not come to its end"
