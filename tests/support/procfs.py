"""What /proc says about processes: there is no psutil here."""

from __future__ import annotations

import ctypes
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    pid: int
    start: int  # in ticks since boot: tells a pid that was used again
    parent: int
    state: str
    command: str

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        now = process(self.pid)
        return now is not None and now.start == self.start and now.state not in "ZX"


def process(pid: int) -> Process | None:
    """None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name, in parentheses, may hold anything
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[19]), int(fields[1]), fields[0], command)


def processes() -> list[Process]:
    found = (process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [p for p in found if p is not None]


def children(pid: int) -> list[Process]:
    """Living ones."""
    return [p for p in processes() if p.parent == pid and p.state not in "ZX"]


def child_pids(pid: int) -> list[int]:
    """All of one moment or nearly so, dead ones too."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def environment(pid: int) -> bytes:
    """As exec was given it; empty when it is dead."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f.read()
    except OSError:
        return b""


def descendants(pid: int) -> list[Process]:
    """Living ones."""
    by_parent: dict[int, list[Process]] = {}
    for p in processes():
        by_parent.setdefault(p.parent, []).append(p)
    found: list[Process] = []
    todo = [pid]
    while todo:
        below = by_parent.get(todo.pop(), [])
        found += [p for p in below if p.state not in "ZX"]
        todo += [p.pid for p in below]
    return found


def fds(pid: int) -> dict[int, str]:
    """Open file descriptors and what they are, such as `socket:[123]`."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def fd_kinds(pid: int) -> Counter[str]:
    """How many of each kind are open, such as `socket`: 4. Files of the cgroups of workers are of one kind. Without that by
    which a daemon remembers us, who have connected to it."""
    return Counter(
        re.sub(r":\[\d+\]$|/worker-[\d.]+", "", what)
        for number, what in fds(pid).items()
        if "pidfd" not in what or not _is_of_us(pid, number)
    )


def _is_of_us(pid: int, number: int) -> bool:
    """Of a pidfd."""
    try:
        info = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    except FileNotFoundError:
        return False
    return bool(re.search(rf"^Pid:\s+{os.getpid()}$", info, re.MULTILINE))


def become_subreaper() -> None:
    """Processes that a daemon leaves behind become our children instead of init's, so that they are found."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap(pid: int) -> None:
    """Take away a zombie that was left to us."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass
