"""A cgroup with little memory, of either version, where this machine lets us make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.cgroups import is_removed
from tests.support.waiting import eventually

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit: int) -> Iterator[list[str] | None]:
    """The words before a command that start it in there; None where no group can be made."""
    made = _make(limit)
    if made is None:
        yield None
        return
    try:
        yield ["/bin/sh", "-c", f'echo $$ >{made}/cgroup.procs && exec "$@"', "sh"]
    finally:
        eventually(partial(is_removed, made), f"{made} is empty and removed")


def _make(limit: int) -> Path | None:
    parent, knob = (V2, "memory.max") if (V2 / "cgroup.controllers").exists() else (V1, "memory.limit_in_bytes")
    group = parent / f"pypool-test-{os.getpid()}"
    try:
        if parent == V2:
            (parent / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
    except OSError:
        return None
    try:
        (group / knob).write_text(str(limit))
    except OSError:
        group.rmdir()
        return None
    return group
