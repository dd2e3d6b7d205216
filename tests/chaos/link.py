"""A connection of the chaos run: it pipelines, and sees each reply that does not belong to it."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any, Literal

import msgpack

from tests.chaos.history import Call, History

Framing = Literal["prefixed", "bare"]


class Link(asyncio.Protocol):
    """Made by connect(). Replies are checked against what waits for them as they come."""

    def __init__(self, history: History, name: str, framing: Framing) -> None:
        self.history = history
        self.name = name
        self.framing = framing
        self.transport: asyncio.Transport | None = None
        self.waiting: dict[int, list[Call | asyncio.Future[Any]]] = {}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refused: str | None = None  # the error without an id
        self.last_id = 0
        self.leases: set[int] = set()  # that it has got and not lost
        self._buffer = bytearray()
        self._bare = msgpack.Unpacker(raw=False, strict_map_key=False)

    # ---- out

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.ended.done():
            self.transport.write(data)

    def frame(self, message: Any) -> bytes:
        body: bytes = msgpack.packb(message)
        return struct.pack(">I", len(body)) + body if self.framing == "prefixed" else body

    def ask(self, method: str, **params: Any) -> asyncio.Future[Any]:
        """A request that is no call: its (error, result)."""
        future = asyncio.get_running_loop().create_future()
        self.last_id += 1
        self.waiting[self.last_id] = [future]
        if self.ended.done():
            future.set_result(({"code": "closed"}, None))
        self.write(self.frame([0, self.last_id, method, [params] if params else []]))
        return future

    def prepare(self, call: Call, options: dict[str, Any], number: int | None = None) -> bytes:
        """The bytes of a call, which waits for its reply from now on."""
        if number is None:
            self.last_id += 1
            number = self.last_id
        call.future = asyncio.get_running_loop().create_future()
        call.sent = time.monotonic()
        self.history.calls.append(call)
        if self.ended.done():
            self._give_up(call)
        else:
            self.waiting.setdefault(number, []).append(call)
        params = {"target": "run", "args": [call.tag, call.what, call.n], "pool": call.pool, "meta": True, **options}
        return self.frame([0, number, "execute", [params]])

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # ---- in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        for waiting in self.waiting.values():
            for one in waiting:
                if isinstance(one, Call):
                    self._give_up(one)
                elif not one.done():
                    one.set_result(({"code": "closed"}, None))
        self.waiting.clear()

    @staticmethod
    def _give_up(call: Call) -> None:
        call.closed = True
        if call.future is not None and not call.future.done():
            call.future.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.framing == "bare":
            self._bare.feed(data)
            while True:
                try:
                    message = self._bare.unpack()
                except msgpack.OutOfData:
                    return
                self._take(message, now)
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 4:
            (length,) = struct.unpack_from(">I", self._buffer, at)
            if len(self._buffer) - at < 4 + length:
                break
            body = memoryview(self._buffer)[at + 4 : at + 4 + length]
            message = msgpack.unpackb(body, raw=False, strict_map_key=False)
            body.release()
            at += 4 + length
            self._take(message, now)
        del self._buffer[:at]

    def _note_lost(self, news: Any) -> None:
        """A lease that this connection has got is over; it is told so once."""
        if set(news) - {"cause"} != {"lease", "worker", "reason", "message"} or news["lease"] not in self.leases:
            self.history.complain(7, f"{self.name}: {news!r}")
        self.leases.discard(news["lease"])

    def _take(self, message: Any, now: float) -> None:
        if isinstance(message, list) and message[:2] == [2, "lease_lost"]:
            self._note_lost(message[2][0])
            return
        if not isinstance(message, list) or len(message) != 4 or message[0] != 1:
            self.history.complain(1, f"{self.name}: the daemon sent {message!r}")
            return
        _, number, error, result = message
        if number is None:
            self.refused = str(error.get("code") if isinstance(error, dict) else error)
            return
        waiting = self.waiting.get(number)
        if not waiting:
            self.history.complain(1, f"{self.name}: a reply that nobody waits for: {message!r:.300}")
            return
        is_duplicate = isinstance(error, dict) and error.get("code") == "duplicate_id"
        one = waiting.pop() if is_duplicate else waiting.pop(0)
        if not waiting:
            del self.waiting[number]
        if isinstance(one, Call):
            self._finish(one, error, result, now)
        elif not one.done():
            one.set_result((error, result))
        if isinstance(result, dict) and "lease" in result:
            self.leases.add(result["lease"])

    def _finish(self, call: Call, error: Any, result: Any, now: float) -> None:
        call.done = now
        if error is not None:
            call.code, call.executed = error["code"], error["executed"]
            call.worker = error.get("worker", 0)
        else:
            call.code, call.executed = "ok", "yes"
            call.worker = result["meta"]["worker"]
            value = result["value"]
            if call.session:
                value = self._take_counts(call, value)
            expected = call.tag + "." * call.n if call.what == "big" else call.tag
            if value != expected:
                self.history.complain(2, f"{call}: got {value!r:.200}")
        if call.future is not None and not call.future.done():
            call.future.set_result(None)


    def _take_counts(self, call: Call, value: str) -> str:
        try:
            text, count, begun = value.split(" ")
            call.count, call.begun = int(count), int(begun)
            return text
        except ValueError:
            self.history.complain(6, f"{call}: no counts in {value!r:.200}")
            return value


async def connect(path: str, history: History, name: str, framing: Framing) -> Link:
    """A connection that has said hello."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: Link(history, name, framing), path)
    link.ask("hello", protocol=1, client=name)
    return link
