"""Where the daemon is, and getting a connection to it."""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from collections.abc import Iterator

from .errors import ConnectionLost

_PAUSE = 0.004
_PAUSE_MAX = 0.2
_AGAIN = (errno.EAGAIN, errno.ECONNREFUSED)  # the backlog is full; nobody listens (yet)


def default_path() -> str:
    """$PYPOOL_SOCKET, else /run/pypoold/pypoold.sock for root and $XDG_RUNTIME_DIR/pypoold/pypoold.sock for others."""
    path = os.environ.get("PYPOOL_SOCKET")
    if path:
        return path
    run = "" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{run or '/run'}/pypoold/pypoold.sock"


def attempts(path: str, deadline: float) -> Iterator[float | socket.socket]:
    """Yields pauses in seconds between attempts to connect, and at last a connected non-blocking socket.

    Raises ConnectionLost when that cannot be, or cannot be before the deadline.
    """
    pause = _PAUSE
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(path)
        except OSError as e:
            sock.close()
            left = deadline - time.monotonic()
            if e.errno not in _AGAIN or left <= 0:
                why = "the daemon's backlog is full" if e.errno == errno.EAGAIN else e.strerror or e
                raise ConnectionLost("cannot_connect", f"cannot connect to {path}: {why}") from None
        except BaseException:
            sock.close()
            raise
        else:
            yield sock
            return
        yield min(left, random.uniform(pause / 2, pause))
        pause = min(2 * pause, _PAUSE_MAX)
