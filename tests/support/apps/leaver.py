"""Leaves processes behind that are in nobody's group."""
from __future__ import annotations

import os
import subprocess
import sys

from pypool_worker import expose

LEAVE = ("import subprocess; p = subprocess.Popen(['sleep', '600'], stdout=-3, start_new_session=True); "
         "print(p.pid, flush=True)")


@expose
def pid() -> int:
    return os.getpid()


@expose
def leave() -> int:
    """The pid of a grandchild in a session of its own whose parent is gone."""
    done = subprocess.run([sys.executable, "-c", LEAVE], stdout=subprocess.PIPE, start_new_session=True, check=True)
    return int(done.stdout)


@expose
def leave_without_environment() -> int:
    """The same, of one that nothing in its environment tells."""
    done = subprocess.run([sys.executable, "-c", LEAVE], stdout=subprocess.PIPE, start_new_session=True, check=True,
                          env={})
    return int(done.stdout)


@expose
def leave_and_die() -> None:
    os.kill(os.getpid(), 11)


@expose
def append_and_die(path: str) -> None:
    with open(path, "a", encoding="utf-8") as ledger:
        ledger.write("begun\n")
    os.kill(os.getpid(), 9)
