"""For workers that are forked: what they share with their template, and what they must not."""

import os
import random
import secrets
import socket
import stat
import time
from typing import Any, Dict, List

from pypool_worker import after_fork, expose, on_start

LISTENER = socket.socket(socket.AF_UNIX)  # as of a client library that connects when it is imported
FILE = open(__file__)
BORN: List[str] = []


@after_fork
def note_fork() -> None:
    BORN.append("after_fork")


@on_start
def note_start() -> None:
    BORN.append("on_start")


@expose
def born() -> Dict[str, Any]:
    return {"pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0), "hooks": BORN,
            "worker": os.environ["PYPOOL_WORKER"]}


@expose
def draw() -> List[Any]:
    import numpy

    return [os.getpid(), random.random(), float(numpy.random.random()), secrets.token_hex(8)]


@expose
def fds() -> Dict[int, str]:
    return {int(fd): os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
            if os.path.exists("/proc/self/fd/" + fd)}


@expose
def listener_is_socket() -> bool:
    return stat.S_ISSOCK(os.fstat(LISTENER.fileno()).st_mode)


@expose
def stay(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@expose
def leave(code: int) -> None:
    os._exit(code)


@expose
def table(n: int) -> int:
    """Touches objects of before the fork, as a handler does that reads what a module has."""
    return sum(len(name) for name in list(globals())[:n])
