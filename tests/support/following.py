"""A command of pypoolctl that goes on until it is stopped."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from types import TracebackType
from typing import Any

from tests.support.client import Client
from tests.support.daemon import BUILD, SLOW, Daemon
from tests.support.waiting import eventually


class Following:
    """Starts the command; with `subscribed` it returns when the daemon knows that it listens."""

    def __init__(self, daemon: Daemon, *arguments: str, subscribed: bool = True) -> None:
        self.process = subprocess.Popen(
            [str(BUILD / "pypoolctl"), *arguments],
            env={**os.environ, "PYPOOL_SOCKET": str(daemon.socket), "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._buffer = b""
        if subscribed:
            with daemon.client() as c:
                eventually(lambda: self._is_heard(c), "it has subscribed", 10.0 * SLOW)

    def _is_heard(self, c: Client) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        return any(one["subscribed"] and one["pid"] == self.process.pid for one in c.call("clients"))

    def __enter__(self) -> Following:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self, timeout: float = 10.0) -> str:
        """The next line, without its end."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout * SLOW
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            assert data, f"no line but {self._buffer!r} of {self.process.args!r}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def object(self) -> dict[str, Any]:
        """The next line, of a command with --json."""
        found = json.loads(self.line())
        assert isinstance(found, dict)
        return found

    def stop(self, signo: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status, the rest of its output, and what it said on stderr."""
        self.process.send_signal(signo)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """The same, of one that ends by itself."""
        out, err = self.process.communicate(timeout=10 * SLOW)
        return self.process.returncode, (self._buffer + out).decode(), err.decode()
