"""One connection: requests out, replies in, and who waits for which. Never blocks; waiting is the caller's."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Optional

from .errors import ConnectionLost, Executed, PypoolError, error_from
from .wire import FRAME_MAX, BadReply, Decoder, Undecodable, encode, frame

Finish = Callable[[Optional[PypoolError], Any], None]

_CHUNK = 1 << 18


class Call:
    """A request in flight. It stays until the daemon has answered it, also when nobody waits any more."""

    __slots__ = ("finish", "id", "left", "method", "started")

    def __init__(self, number: int, method: str, data: bytes, finish: Finish | None) -> None:
        self.id = number
        self.method = method
        self.left = memoryview(data)  # what has not been sent
        self.started = False  # something has been
        self.finish = finish  # called once; None: nobody waits


class Link:
    """Owns a connected non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid = os.getpid()
        self.max_frame = FRAME_MAX
        self.lost: ConnectionLost | None = None
        self.on_lost: Callable[[], None] | None = None  # called before the socket is closed
        self._calls: dict[int, Call] = {}
        self._next_id = 1
        self._out: deque[Call] = deque()
        self._decoder = Decoder()
        self._farewell = ""  # what the daemon said about a frame of ours that it could not read

    @property
    def wants_write(self) -> bool:
        return bool(self._out)

    def check(self) -> None:
        """Raises PypoolError in a process that did not make this connection, and when it is lost."""
        if os.getpid() != self.pid:
            raise PypoolError("wrong_process", "this client was connected before fork(); a child makes its own")
        if self.lost is not None:
            raise ConnectionLost(self.lost.code, f"not connected: {self.lost.message}")

    def submit(self, method: str, params: dict[str, Any], finish: Finish | None) -> Call:
        """Queue a request; write() sends it. Raises PypoolError, and what encode() does, with nothing queued."""
        self.check()
        number = self._next_id
        body = encode(number, method, params)
        if len(body) > self.max_frame:
            size = f"{len(body)} bytes, the daemon takes at most {self.max_frame}"
            raise PypoolError("too_large", f"the request has {size}")
        self._next_id += 1
        call = Call(number, method, frame(body), finish)
        self._calls[number] = call
        self._out.append(call)
        return call

    def write(self) -> None:
        """Send what can be sent now."""
        try:
            while self._out and self.lost is None:
                call = self._out[0]
                sent = self.sock.send(call.left, socket.MSG_NOSIGNAL)
                call.started = True
                call.left = call.left[sent:]
                if not call.left:
                    self._out.popleft()
        except BlockingIOError:
            return
        except OSError as e:
            while self.lost is None and self.read():  # replies that came before the end
                pass
            self.lose("connection_lost", f"cannot send to the daemon: {e.strerror or e}")
        except BaseException:  # a signal handler raised, and we no longer know what has been sent
            self.lose("connection_lost", "interrupted while sending")
            raise

    def read(self) -> bool:
        """Take in what has come and finish the calls that it answers; whether there was anything."""
        try:
            data = self.sock.recv(_CHUNK)
            if not data:
                self.lose("connection_lost", self._farewell or "the daemon closed the connection")
                return False
            self._decoder.feed(data)
            for message in self._decoder.messages():
                self._take(message)
        except BlockingIOError:
            return False
        except OSError as e:
            self.lose("connection_lost", self._farewell or f"the connection to the daemon was lost: {e.strerror or e}")
        except BadReply as e:
            self.lose("bad_reply", f"the daemon sent what is not the protocol: {e}")
        except BaseException:
            self.lose("connection_lost", "interrupted while receiving")
            raise
        return True

    def abandon(self, call: Call) -> Executed:
        """Nobody waits for this call any more: it is withdrawn if nothing of it has left, else cancelled there."""
        call.finish = None
        if self.lost is not None or call.id not in self._calls:
            return "maybe"
        if not call.started:
            self._out.remove(call)
            del self._calls[call.id]
            return "never"
        self.submit("cancel", {"id": call.id}, None)
        return "maybe"

    def give_back(self, method: str, result: Any) -> None:
        """Return what a call brought that nobody waits for: a lease would block its worker until it expires."""
        if method == "checkout" and isinstance(result, dict) and self.lost is None:
            self.submit("checkin", {"lease": result.get("lease")}, None)

    def lose(self, code: str, message: str) -> None:
        """End the connection and all calls."""
        if self.lost is not None:
            return
        self.lost = ConnectionLost(code, message)
        if self.on_lost is not None:
            self.on_lost()
        self.sock.close()
        calls = list(self._calls.values())
        self._calls.clear()
        self._out.clear()
        for call in calls:
            if call.finish is not None:
                # a request of which the end is missing was not read by the daemon
                call.finish(ConnectionLost(code, message, "never" if call.left else "maybe"), None)

    def _take(self, message: list[Any]) -> None:
        if message[0] == 2:  # a notification; version 1 has none
            return
        _, number, error, result = message
        if number is None:
            self._farewell = str(error_from(error))
            return
        call = self._calls.pop(number, None) if type(number) is int else None
        if call is None:
            raise BadReply(f"a reply to a request {number!r} that is not in flight")
        if call.finish is not None:
            call.finish(*_outcome(error, result))
        elif error is None:
            self.give_back(call.method, result)


def _outcome(error: Any, result: Any) -> tuple[PypoolError | None, Any]:
    if error is not None:
        return error_from(error), None
    if isinstance(result, Undecodable):
        return PypoolError("bad_reply", f"the result cannot be a Python value: {result.reason}", "yes"), None
    return None, result
