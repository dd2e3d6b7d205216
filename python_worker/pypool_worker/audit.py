"""The audit: what the application has left in a template that a child would not have, or would share."""
from __future__ import annotations

import os
import resource
import sys
import threading
import time
from typing import Dict, Iterable, List

TASKS = "/proc/self/task"
DESCRIPTORS = "/proc/self/fd"
SOCKET = "socket:"
LEAVING_SECONDS = 1.0
LOOK_SECONDS = 0.001


def is_single_threaded() -> bool:
    return len(os.listdir(TASKS)) == 1


def other_threads() -> List[str]:
    """The names of all threads but the main one: Python's own, else the kernel's. Waits for those that are on their way
    out: one that has been joined is still there for a moment."""
    end = time.monotonic() + LEAVING_SECONDS
    while True:
        known = {thread.native_id: thread.name for thread in threading.enumerate()}
        tids = [int(tid) for tid in os.listdir(TASKS) if int(tid) != os.getpid()]
        if not tids or any(tid in known for tid in tids) or time.monotonic() > end:
            return [known.get(tid) or _comm(tid) for tid in tids]
        time.sleep(LOOK_SECONDS)


def _comm(tid: int) -> str:
    try:
        with open(f"{TASKS}/{tid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return f"{file.read().strip()} (not Python's)"
    except OSError:
        return "one that has just ended"


def explain_threads(names: List[str]) -> str:
    """Why it must not be forked."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the application has started {'a thread' if len(names) == 1 else f'{len(names)} threads'}: {shown}"


def closed_descriptors(numbers: Iterable[int]) -> List[int]:
    return [fd for fd in numbers if not os.path.exists(f"{DESCRIPTORS}/{fd}")]


def spare_descriptors() -> int:
    """How many more this process may open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most - len(os.listdir(DESCRIPTORS))


def open_descriptors(above: int) -> Dict[int, str]:
    """What is open over that number, in the kernel's words."""
    found = {}
    for fd in sorted(map(int, os.listdir(DESCRIPTORS))):
        try:
            if fd > above:
                found[fd] = os.readlink(f"{DESCRIPTORS}/{fd}")
        except OSError:
            pass  # that of the listing itself
    return found
