"""The socket of a direct lease: calls go to its worker with nobody in between, and are answered in their order."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import ConnectionLost, PypoolError
from .link import Call, Link
from .params import GRACE

if TYPE_CHECKING:
    from .daemon_link import DaemonLink


class DirectLink(Link):
    """Its calls end with the lease. When the socket is at its end, they wait a moment for the daemon's word why."""

    peer = "the worker"

    def __init__(self, sock: socket.socket, home: DaemonLink, lease: Any) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self.home = home
        self.lease = int(lease)
        self.max_frame = home.max_frame
        self.leaving = False  # a checkin is on its way
        self.told_by: float | None = None  # time.monotonic(): until then the daemon's word is waited for
        self.on_waiting: Callable[[DirectLink], None] | None = None  # told_by is set

    def check(self) -> None:
        self.home.check()
        if self.leaving or self.lost is not None:
            raise PypoolError("lease_expired", f"lease {self.lease} has ended")

    def lose(self, code: str, message: str) -> None:
        """Nothing more comes over this socket."""
        if self.lost is not None:
            return
        if self.leaving:
            self.end("cancelled", "it was checked in")
        elif code != "connection_lost" or self._farewell:
            self.end("bad_reply", message)
        elif not self._calls:
            self.end("lease_expired", "its socket was closed")
        else:
            self._hang_up(ConnectionLost(code, message))
            self.told_by = time.monotonic() + GRACE
            if self.on_waiting is not None:
                self.on_waiting(self)

    def expire(self) -> None:
        """The daemon's word has not come in time, if that is so."""
        if self.told_by is not None and time.monotonic() >= self.told_by:
            self.end("lease_expired", "its socket was closed")

    def note_news(self, news: dict[str, Any]) -> None:
        """lease_lost. What the worker has answered before still counts."""
        while self.lost is None and self.read():
            pass
        code = "worker_died" if news.get("reason") == "worker_died" else "lease_expired"
        fields = {key: news[key] for key in ("worker", "cause") if key in news}
        self._end(code, str(news.get("message", f"lease {self.lease} has ended")), fields)

    def end(self, code: str, why: str) -> None:
        self._end(code, f"lease {self.lease} has ended: {why}", {})

    def lose_home(self, code: str, message: str) -> None:
        self._hang_up(ConnectionLost(code, message))
        self._close(lambda executed: ConnectionLost(code, message, executed))

    def _end(self, code: str, message: str, fields: dict[str, Any]) -> None:
        self._hang_up(ConnectionLost(code, message))
        self._close(lambda executed: PypoolError(code, message, executed, fields))

    def _close(self, error: Callable[[Any], PypoolError]) -> None:
        self.told_by = None
        self.home.leases.pop(self.lease, None)
        self._finish_all(error)

    def _hang_up(self, why: ConnectionLost) -> None:
        if self.lost is not None:
            return
        self.lost = why
        if self.on_lost is not None:
            self.on_lost(self)
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # for a child that was forked and has a copy too
        except OSError:
            pass  # it was closed at the other end
        self.sock.close()

    def _note_deaf(self, why: str) -> None:
        """What has been sent may still be answered: the end is seen when it comes."""

    def _stop(self, call: Call) -> None:
        """Nobody but the worker knows of it. One that waits there behind another is left alone; the one that runs can
        be stopped only with the lease."""
        if next(iter(self._calls.values())) is call:
            self.home.submit("checkin", {"lease": self.lease}, None)
            self.end("lease_expired", "a call under it had to be stopped")
