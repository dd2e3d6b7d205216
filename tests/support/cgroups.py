"""The cgroups of this machine, of either version, as far as it lets us make some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "pids")


def homes(pid: int | str = "self") -> list[Path]:
    """Where that process is in the hierarchies of both controllers: two places in version 1, one in version 2."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    found = [ROOT / name / path.lstrip("/") for _, names, path in lines for name in names.split(",") if name in CONTROLLERS]
    return found or [ROOT / path.lstrip("/") for _, names, path in lines if not names]


def can_be_made() -> bool:
    """By a daemon that this process starts. Not in version 2: it would move this process, and whoever else is in its group."""
    return os.geteuid() == 0 and len(homes()) == 2 and all(os.access(home, os.W_OK) for home in homes())


def of_daemon(pid: int) -> list[Path]:
    """The cgroups that it has made for its workers and not removed."""
    found = (Path(top, name) for home in homes() for top, names, _ in os.walk(home) for name in names)
    return [group for group in found if group.name.startswith(f"worker-{pid}.")]


def mounts() -> list[str]:
    """Of both controllers."""
    return [str(ROOT / name) for name in CONTROLLERS if (ROOT / name).is_dir()] or [str(ROOT)]


@contextmanager
def given_to(uid: int) -> Iterator[list[str]]:
    """A cgroup that was given to that user: the words before a command that start it in there, as that user."""
    made = [home / f"pypool-test-{os.getpid()}" for home in homes()]
    for group in made:
        group.mkdir()
        for path in (group, group / "cgroup.procs"):
            os.chown(path, uid, uid)
    enter = "".join(f"echo $$ >{group}/cgroup.procs && " for group in made)
    try:
        yield ["/bin/sh", "-c", f'{enter}exec setpriv --reuid={uid} --regid={uid} --clear-groups "$@"', "sh"]
    finally:
        for group in made:
            eventually(partial(is_removed, group), f"{group} is empty and removed")


def is_removed(group: Path) -> bool:
    """That cgroup, with what a daemon that was killed has left in it."""
    try:
        for below in group.glob("worker-*"):
            below.rmdir()
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
