"""The connection to the daemon, with its leases."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from .direct import DirectLink
from .link import CHUNK, Call, Finish, Link
from .wire import BadReply

_FDS_MAX = 253  # of one message: the kernel's limit


class DaemonLink(Link):
    """Owns the links of its direct leases too. File descriptors are asked for only while a direct checkout is in
    flight: at other times the kernel drops them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.leases: dict[int, DirectLink] = {}  # those that have not ended
        self.on_direct: Callable[[DirectLink], None] | None = None  # a lease has come
        self.on_news: Callable[[str, Any], None] | None = None  # a notification
        self._sockets_due = 0  # direct checkouts in flight
        self._fds: deque[int] = deque()  # received, in order; their messages have not been read

    def submit(self, method: str, params: dict[str, Any], finish: Finish | None) -> Call:
        call = super().submit(method, params, finish)
        if method == "checkout" and params.get("direct") is True:
            call.lease = True
            self._sockets_due += 1
        elif method == "checkin" and call.lease in self.leases:
            self.leases[call.lease].leaving = True
        return call

    def give_back(self, method: str, result: Any) -> None:
        """A lease that nobody has would block its worker until it expires."""
        if method == "checkout" and isinstance(result, dict) and self.lost is None:
            link = self.leases.get(result.get("lease", 0))
            if link is not None:
                link.end("cancelled", "nobody waits for it any more")
            self.submit("checkin", {"lease": result.get("lease")}, None)

    def lose(self, code: str, message: str) -> None:
        if self.lost is not None:
            return
        super().lose(code, message)
        for link in list(self.leases.values()):
            link.lose_home(code, message)
        while self._fds:
            os.close(self._fds.popleft())

    def _note_withdrawn(self, call: Call) -> None:
        self._sockets_due -= call.method == "checkout" and call.lease is True

    def _stop(self, call: Call) -> None:
        self.submit("cancel", {"id": call.id}, None)

    # ---- file descriptors

    def _receive(self) -> bytes:
        if not self._sockets_due:
            return super()._receive()
        data, fds, flags, _ = socket.recv_fds(self.sock, CHUNK, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)
        self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            raise BadReply("file descriptors that this process could not take: is it at its limit of open files?")
        if len(self._fds) > self._sockets_due:
            raise BadReply("more file descriptors than were asked for")
        return data

    def _check_taken(self) -> None:
        # one comes with the first byte of its message: only a message that is not complete may have left one
        if len(self._fds) > self._decoder.partial:
            raise BadReply("a file descriptor that no answer names")

    def _take_socket(self, result: dict[str, Any]) -> socket.socket | None:
        fds = result.get("fds", 0)
        if fds == 0:
            return None
        if fds != 1 or not self._fds:
            raise BadReply("a direct lease without its socket")
        return socket.socket(fileno=self._fds.popleft())

    def _note_answer(self, call: Call, error: Any, result: Any) -> None:
        if call.method == "checkin" and call.lease in self.leases:
            self.leases[call.lease].end("cancelled", "it was checked in")
        if call.method != "checkout" or call.lease is not True:
            return
        self._sockets_due -= 1
        sock = self._take_socket(result) if error is None and isinstance(result, dict) else None
        if sock is None:
            return
        if call.finish is None:
            sock.close()  # the lease itself is given back as any other
            return
        link = DirectLink(sock, self, result.get("lease"))
        self.leases[link.lease] = link
        if self.on_direct is not None:
            self.on_direct(link)

    # ---- news

    def _take_news(self, method: Any, params: Any) -> None:
        news = params[0] if isinstance(params, list) and params and isinstance(params[0], dict) else {}
        if method == "lease_lost" and news.get("lease") in self.leases:
            self.leases[news["lease"]].note_news(news)
        if self.on_news is not None:
            self.on_news(str(method), news)
