"""Pidfds for a daemon under valgrind 3.19, which knows none: tests/faults/pidfds.c, preloaded there, asks for them."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from pathlib import Path

REQUEST = struct.Struct("=ii")  # pid, signal
ANSWER = struct.Struct("=i")  # errno


class PidfdServer:
    """Opens pidfds and sends signals by them for others, from a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.bind(str(path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve, name="pidfds", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._sock.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, REQUEST.size, 1)
                if not data:
                    return
                pid, signo = REQUEST.unpack(data)
                self._answer(connection, pid, signo, fds)

    def _answer(self, connection: socket.socket, pid: int, signo: int, fds: list[int]) -> None:
        made: list[int] = []
        error = 0
        try:
            if fds:
                signal.pidfd_send_signal(fds[0], signo)
            else:
                made = [os.pidfd_open(pid)]
        except OSError as e:
            error = e.errno or 0
        socket.send_fds(connection, [ANSWER.pack(error)], made)
        for fd in (*made, *fds):
            os.close(fd)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(str(self.path))  # and sends nothing, which ends the thread
        self._thread.join(5)
        self._sock.close()
        self.path.unlink(missing_ok=True)
