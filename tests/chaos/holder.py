"""Direct leases: a connection that receives descriptors, and the link over the socket that it got."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import time
from collections import deque
from typing import Any

import msgpack

from tests.chaos.history import Call, History
from tests.chaos.link import Link

CLOSED = {"code": "closed"}


class Holder:
    """One request at a time. Notifications are read with the replies."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: deque[int] = deque()  # received and not taken, in order
        self.last_id = 0
        self._buffer = bytearray()

    @classmethod
    async def open(cls, path: str, name: str) -> Holder:
        """A connection that has said hello."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(sock, path)
        holder = cls(sock)
        await holder.ask("hello", protocol=1, client=name)
        return holder

    def close(self) -> None:
        self.sock.close()
        while self.fds:
            os.close(self.fds.popleft())

    async def ask(self, method: str, **params: Any) -> tuple[Any, Any]:
        """Its (error, result)."""
        self.last_id += 1
        body = msgpack.packb([0, self.last_id, method, [params]])
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, struct.pack(">I", len(body)) + body)
            while True:
                message = await self._message()
                if message[0] == 1 and message[1] == self.last_id:
                    return message[2], message[3]
        except (EOFError, OSError):
            return CLOSED, None

    async def _message(self) -> Any:
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack_from(">I", self._buffer)
                if len(self._buffer) >= 4 + length:
                    message = msgpack.unpackb(self._buffer[4 : 4 + length], raw=False, strict_map_key=False)
                    del self._buffer[: 4 + length]
                    return message
            self._buffer += await self._receive()

    async def _receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.sock, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
        for _, _, content in ancillary:
            fds = array.array("i")
            fds.frombytes(content)
            self.fds.extend(fds)
        if not data:
            raise EOFError
        return data

    async def link(self, history: History, name: str, worker: int) -> DirectLink:
        """Over the socket that came with the last reply."""
        sock = socket.socket(fileno=self.fds.popleft())
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: DirectLink(history, name, worker), sock=sock)
        return link


class DirectLink(Link):
    """To the worker itself, which knows no pools, no queue and no lease."""

    def __init__(self, history: History, name: str, worker: int) -> None:
        super().__init__(history, name, "prefixed")
        self.worker = worker

    def prepare(self, call: Call, options: dict[str, Any], number: int | None = None) -> bytes:
        call.direct = True
        call.timeout = float("inf")
        self.last_id += 1
        call.future = asyncio.get_running_loop().create_future()
        call.sent = time.monotonic()
        self.history.calls.append(call)
        if self.ended.done():
            self._give_up(call)
        else:
            self.waiting[self.last_id] = [call]
        return self.frame([0, self.last_id, "execute", [{"target": "run", "args": [call.tag, call.what, call.n]}]])

    def _finish(self, call: Call, error: Any, result: Any, now: float) -> None:
        super()._finish(call, error, {"value": result, "meta": {"worker": self.worker}}, now)
