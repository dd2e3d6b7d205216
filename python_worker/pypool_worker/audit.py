"""The audit: what the application has left in a template that a child would not have, or would share."""
from __future__ import annotations

import os
import threading
from typing import Dict, List

TASKS = "/proc/self/task"
DESCRIPTORS = "/proc/self/fd"
SOCKET = "socket:"


def is_single_threaded() -> bool:
    return len(os.listdir(TASKS)) == 1


def other_threads() -> List[str]:
    """The names of all threads but the main one: Python's own, else the kernel's."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = []
    for tid in map(int, os.listdir(TASKS)):
        if tid != os.getpid():
            name = known.get(tid) or _comm(tid)
            if name:
                found.append(name)
    return found


def _comm(tid: int) -> str:
    """Empty when it has just ended."""
    try:
        with open(f"{TASKS}/{tid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return f"{file.read().strip()} (not Python's)"
    except OSError:
        return ""


def explain_threads(names: List[str]) -> str:
    """Why it must not be forked."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the application has started {'a thread' if len(names) == 1 else f'{len(names)} threads'}: {shown}"


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
