"""The other end of sd_notify: what a service manager would see."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path


class NotifySocket:
    """Collects all messages, from a thread of its own, so that the daemon never waits for a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[tuple[float, dict[str, str]]] = []  # CLOCK_MONOTONIC at arrival
        self._changed = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._thread = threading.Thread(target=self._read, name="notify", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._sock.recv(65536):
            lines = (line.partition("=") for line in data.decode(errors="replace").splitlines())
            message = {key: value for key, _, value in lines}
            with self._changed:
                self.messages.append((time.monotonic(), message))
                self._changed.notify_all()

    def find(self, key: str, value: str | None = None) -> float | None:
        """When KEY (=VALUE) came first; None when it has not."""
        for at, message in self.messages:
            if key in message and value in (None, message[key]):
                return at
        return None

    def wait(self, look: Callable[[], bool], timeout: float) -> bool:
        """Wait until look() is true, asked again after each message and each 50 ms; False at the deadline."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not look():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.05))
        return True

    def fence(self) -> None:
        """Returns when all that was sent before has come."""
        word = str(time.monotonic_ns())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(f"TEST_FENCE={word}".encode(), str(self.path))
        assert self.wait(lambda: self.find("TEST_FENCE", word) is not None, 20)

    def values(self, key: str) -> list[str]:
        """All values of a key in order, such as the texts of STATUS."""
        return [message[key] for _, message in self.messages if key in message]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"", str(self.path))  # an empty datagram ends the thread
        self._thread.join(5)
        self._sock.close()
        self.path.unlink(missing_ok=True)
