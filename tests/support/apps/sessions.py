"""Handlers that live on their session."""
from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any, Dict, Tuple

from pypool_worker import current, expose, on_session_close
from pypool_worker.copies import Copy

HERE: Dict[str, int] = {}  # what this very process knows of its sessions


@expose
def bump(pause: float = 0.0) -> int:
    """Writes twice, with time to die between."""
    session = current().session
    n = int(session.get("first", 0)) + 1
    session["first"] = n
    time.sleep(pause)
    session["second"] = n
    return n


@expose
def fail_after_writing() -> None:
    current().session["first"] = "half"
    raise ValueError("no")


@expose
def sleep_after_writing(seconds: float) -> None:
    current().session["first"] = "half"
    time.sleep(seconds)


@expose
def die_after_writing() -> None:
    current().session["first"] = "half"
    os._exit(7)


@expose
def append(value: Any) -> int:
    """In place."""
    values = current().session.setdefault("list", [])
    values.append(value)
    return len(values)


@expose
def here() -> Tuple[int, int]:
    """This process, and how often it has served this session."""
    name = current().session.name
    HERE[name] = HERE.get(name, 0) + 1
    return os.getpid(), HERE[name]


@expose
def pid() -> int:
    return os.getpid()


@expose
def write(key: str, value: Any) -> None:
    current().session[key] = value


@expose
def read() -> Dict[str, Any]:
    return dict(current().session)


@expose
def sleep(seconds: float) -> None:
    time.sleep(seconds)


def note(ledger: str, what: str) -> None:
    with open(ledger, "a", encoding="utf-8") as f:
        f.write(f"{what}\n")


@expose
def mark(ledger: str, what: str) -> None:
    note(ledger, what)


@expose
def stubborn(ledger: str, end: str) -> None:
    """Goes on, whatever interrupts it or asks it to leave, until there is a file `end`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            while not os.path.exists(end):
                note(ledger, "stubborn")
                time.sleep(0.01)
            return
        except BaseException:
            continue


@on_session_close
def closed(session: Any) -> None:
    path = session.get("ledger")
    if path:
        with open(path, "a", encoding="utf-8") as ledger:
            ledger.write(f"{session.name} {os.getpid()} {session.get('first')}\n")


@expose
def copies() -> int:
    """How many sessions this process keeps the values of."""
    return sum(type(thing) is Copy for thing in gc.get_objects())
