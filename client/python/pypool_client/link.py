"""One connection: requests out, replies in, and who waits for which. Never blocks; waiting is the caller's.

A connection to the daemon has links of its own kind beside it: the sockets of direct leases, see direct.py.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Optional

from .errors import ConnectionLost, Executed, PypoolError, error_from
from .wire import FRAME_MAX, BadReply, Decoder, Undecodable, encode, frame

Finish = Callable[[Optional[PypoolError], Any], None]

CHUNK = 1 << 18


class Call:
    """A request in flight. It stays until the daemon has answered it, also when nobody waits any more."""

    __slots__ = ("finish", "id", "lease", "left", "method", "started")

    def __init__(self, number: int, method: str, data: bytes, lease: Any, finish: Finish | None) -> None:
        self.id = number
        self.method = method
        self.left = memoryview(data)  # what has not been sent
        self.started = False  # something has been
        self.lease = lease  # what its params say
        self.finish = finish  # called once; None: nobody waits


class Link:
    """Owns a connected non-blocking socket."""

    peer = "the daemon"

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.watched = False  # for the owner: an event loop waits for room to send
        self.pid = os.getpid()
        self.max_frame = FRAME_MAX
        self.lost: ConnectionLost | None = None
        self.on_lost: Callable[[Link], None] | None = None  # called before the socket is closed
        self._calls: dict[int, Call] = {}  # in the order of their submission
        self._next_id = 1
        self._out: deque[Call] = deque()
        self._deaf = False  # the peer takes nothing more
        self._decoder = Decoder()
        self._farewell = ""  # what the peer said about a frame of ours that it could not read

    @property
    def wants_write(self) -> bool:
        return bool(self._out) and not self._deaf

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
            size = f"{len(body)} bytes, {self.peer} takes at most {self.max_frame}"
            raise PypoolError("too_large", f"the request has {size}")
        self._next_id += 1
        call = Call(number, method, frame(body), params.get("lease"), finish)
        self._calls[number] = call
        self._out.append(call)
        return call

    @property
    def busy(self) -> bool:
        """Something is in flight."""
        return bool(self._calls)

    def write(self) -> None:
        """Send what can be sent now."""
        try:
            while self._out and not self._deaf and self.lost is None:
                call = self._out[0]
                sent = self.sock.send(call.left, socket.MSG_NOSIGNAL)
                call.started = True
                call.left = call.left[sent:]
                if not call.left:
                    self._out.popleft()
        except BlockingIOError:
            return
        except OSError as e:
            self._deaf = True
            self._note_deaf(f"cannot send to {self.peer}: {e.strerror or e}")
        except BaseException:  # a signal handler raised, and we no longer know what has been sent
            self.lose("connection_lost", "interrupted while sending")
            raise

    def read(self) -> bool:
        """Take in what has come and finish the calls that it answers; whether there was anything."""
        try:
            data = self._receive()
            if not data:
                self.lose("connection_lost", self._farewell or f"{self.peer} closed the connection")
                return False
            self._decoder.feed(data)
            for message in self._decoder.messages():
                self._take(message)
            self._check_taken()
        except BlockingIOError:
            return False
        except OSError as e:
            why = f"the connection to {self.peer} was lost: {e.strerror or e}"
            self.lose("connection_lost", self._farewell or why)
        except BadReply as e:
            self.lose("bad_reply", f"{self.peer} sent what is not the protocol: {e}")
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
            self._note_withdrawn(call)
            return "never"
        self._stop(call)
        return "maybe"

    def give_back(self, method: str, result: Any) -> None:
        """Return what a call brought that nobody waits for."""

    def lose(self, code: str, message: str) -> None:
        """End the connection and all calls."""
        if self.lost is not None:
            return
        self.lost = ConnectionLost(code, message)
        if self.on_lost is not None:
            self.on_lost(self)
        self.sock.close()
        self._finish_all(lambda executed: ConnectionLost(code, message, executed))

    def _finish_all(self, error: Callable[[Executed], PypoolError]) -> None:
        calls = list(self._calls.values())
        self._calls.clear()
        self._out.clear()
        for call in calls:
            if call.finish is not None:
                # a request of which the end is missing was not read
                call.finish(error("never" if call.left else "maybe"), None)

    # ---- what differs between a connection to the daemon and one to a worker

    def _receive(self) -> bytes:
        return self.sock.recv(CHUNK)

    def _check_taken(self) -> None:
        """All that has been read has been looked at. Raises BadReply."""

    def _note_deaf(self, why: str) -> None:
        while self.lost is None and self.read():  # replies that came before the end
            pass
        self.lose("connection_lost", why)

    def _note_withdrawn(self, call: Call) -> None:
        """It was never sent."""

    def _stop(self, call: Call) -> None:
        """A call that has been sent shall end."""
        raise NotImplementedError

    def _take_news(self, method: Any, params: Any) -> None:
        """Notifications that nobody knows are skipped."""

    def _note_answer(self, call: Call, error: Any, result: Any) -> None:
        """Before the one who waits for it has it."""

    def _take(self, message: list[Any]) -> None:
        if message[0] == 2:
            self._take_news(message[1], message[2])
            return
        _, number, error, result = message
        if number is None:
            self._farewell = str(error_from(error))
            return
        call = self._calls.get(number) if type(number) is int else None
        if call is None:
            raise BadReply(f"a reply to a request {number!r} that is not in flight")
        self._note_answer(call, error, result)
        del self._calls[number]
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
