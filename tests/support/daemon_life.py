"""What the tests of the daemon's beginning, end and surroundings share."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path


from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import Daemon

Start = Callable[..., Daemon]


def calls(observer: Client, key: str) -> int:
    return int(observer.call("status")["calls"][key])


def state_of_first_pool(observer: Client) -> str:
    return str(observer.call("status")["pools"][0]["state"])


def check_end(daemon: Daemon, status: int, timeout: float = 10.0) -> None:
    """It ends by itself with that status, and leaves no process behind."""
    family = procfs.descendants(daemon.pid)
    assert daemon.wait(timeout) == status, daemon.log_end()
    daemon.check_gone(family)


def through_shell(words: str) -> list[str]:
    """A prefix: what bash does with its own fds and environment before it becomes the daemon."""
    return ["/bin/bash", "-c", f'{words} exec "$@"', "bash"]


def bind(path: Path) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(str(path))
    return s
