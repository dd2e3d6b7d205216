"""Takes memory, processes and files, and says what it may take."""
from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from typing import Dict, List

from pypool_worker import expose, on_start

# in a session of its own, with nothing that tells whose it is
LEAVE = ("import resource, subprocess; "
         "hard = resource.getrlimit(10)[1]; resource.setrlimit(10, (hard, hard)); "
         "p = subprocess.Popen(['sleep', '600'], stdout=-3, start_new_session=True, env={}); print(p.pid, flush=True)")


@expose
def pid() -> int:
    return os.getpid()


@expose
def limits() -> Dict[str, int]:
    return {"files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "space": resource.getrlimit(resource.RLIMIT_AS)[0]}


@expose
def groups() -> List[str]:
    """The names of its cgroups that a daemon has made."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        return sorted({os.path.basename(line.rstrip()) for line in file if "/worker-" in line})


_AT_START: List[str] = []


@on_start
def look() -> None:
    _AT_START.extend(groups())


@expose
def groups_at_start() -> List[str]:
    """What groups() said before it was ready."""
    return _AT_START


@expose
def hoard(mib: int) -> int:
    return len(bytearray(b"x") * (mib << 20))


@expose
def child_hoard(mib: int) -> int:
    """In a process that it starts: that one's exit status."""
    return subprocess.run([sys.executable, "-c", f"bytearray(b'x') * ({mib} << 20)"], check=False).returncode


@expose
def start_processes(n: int) -> None:
    for _ in range(n):
        subprocess.Popen(["sleep", "600"])


@expose
def bomb() -> None:
    """Processes that make processes, until nobody lets them, and then again; an interrupt ends nothing."""
    while True:
        try:
            _fork_for_ever()
        except BaseException:
            pass


def _fork_for_ever() -> None:
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            pass


@expose
def start_threads(n: int) -> None:
    stop = threading.Event()
    try:
        for _ in range(n):
            threading.Thread(target=stop.wait, daemon=True).start()
    finally:
        stop.set()


@expose
def leave_without_a_trace() -> int:
    """The pid of a grandchild that nothing but its cgroup connects with this worker."""
    done = subprocess.run([sys.executable, "-c", LEAVE], stdout=subprocess.PIPE, start_new_session=True, check=True,
                          env={})
    return int(done.stdout)
