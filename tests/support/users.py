"""Connections of other users than the one who runs the tests, who must be root for it."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.client import Client, Framing
from tests.support.daemon import APPS, BUILD, Daemon

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def _why_no_namespaces() -> str:
    """A container, or a chroot, may not let root have any. CI says that it does."""
    if os.geteuid() != 0 or os.environ.get("PYPOOL_NEED_BOX"):
        return ""
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


NO_NAMESPACES = _why_no_namespaces()
needs_namespaces = pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES)
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


class Reachable(NamedTuple):
    """What every user can execute and read."""

    build: Path
    apps: Path


@functools.cache
def reachable() -> Reachable:
    """What was built, and the applications of the tests. The checkout may be in a directory of somebody's own, such as /root: then
    copies of them, until the end of this process."""
    if all(directory.stat().st_mode & 0o005 == 0o005 for path in (BUILD, APPS) for directory in (path, *path.parents)):
        return Reachable(BUILD, APPS)
    copy = Path(tempfile.mkdtemp(prefix="pypool-all-"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    for program in ("pypoold", "pypoolctl"):
        shutil.copy(BUILD / program, copy)
    shutil.copytree(BUILD / "python_worker", copy / "python_worker")
    shutil.copytree(APPS, copy / "apps")
    return Reachable(copy, copy / "apps")
