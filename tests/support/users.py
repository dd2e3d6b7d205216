"""Connections of other users than the one who runs the tests, who must be root for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.client import Client, Framing
from tests.support.daemon import Daemon

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
OPEN = {"socket_mode": "0666"}  # settings with which they get as far as the daemon

# numbers that nobody has
ALICE, BOB, CAROL, DAVE = 64001, 64002, 64003, 64004


@contextmanager
def acting_as(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """What connects meanwhile is that user's, with these groups: the kernel looks at connect()."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def client_of(
    daemon: Daemon,
    uid: int,
    *,
    gid: int | None = None,
    groups: Sequence[int] = (),
    framing: Framing = "prefixed",
    hello: bool = True,
) -> Client:
    """A connection of that user."""
    with acting_as(uid, gid, groups):
        return daemon.client(framing=framing, hello=hello)


def make_reachable(path: Path) -> None:
    """For every user: pytest keeps its directories to itself."""
    for directory in (path, *path.parents):
        if directory == Path(tempfile.gettempdir()):
            return
        directory.chmod(directory.stat().st_mode | 0o055)
