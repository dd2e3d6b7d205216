"""The Python workers of the chaos run: handlers that keep the same log as the stubs, see tests/chaos/stub/main.c."""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable, Dict

from pypool_worker import current, expose, on_session_close, on_start

_log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
_name = ""


def note(letter: str, call: int, tag: str) -> None:
    os.write(_log, f"{letter} {_name} {call} {tag} {time.monotonic_ns()}\n".encode())


@on_start
def begin() -> None:
    """Not when it is imported: that may be in a template, once for many workers."""
    global _name
    _name = f"p{os.getpid()}.{time.monotonic_ns()}"
    note("R", os.getpid(), "-")


def sleep(n: int) -> None:
    time.sleep(n / 1000)


def spin(n: int) -> None:
    end = time.monotonic() + n / 1000
    while time.monotonic() < end:
        pass


def fail(n: int) -> None:
    raise ValueError(f"on purpose {n}")


def die(n: int) -> None:
    if n < 100:
        os._exit(n)
    os.kill(os.getpid(), n - 100)
    time.sleep(10)


def deaf(n: int) -> None:
    """Catches every interrupt until its time is over."""
    end = time.monotonic() + n / 1000
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            continue


def noise(n: int) -> None:
    for _ in range(n):
        print("x" * 1023, file=sys.stderr)


def close(n: int) -> None:
    os.closerange(3, 1024)


WHAT: Dict[str, Callable[[int], None]] = {
    "echo": lambda n: None,
    "sleep": sleep,
    "spin": spin,
    "fail": fail,
    "die": die,
    "deaf": deaf,
    "noise": noise,
    "close": close,
}


_begun: Dict[str, int] = {}  # calls of each session in this process


def session_here() -> Any:
    try:
        return current().session
    except RuntimeError:
        return None


@on_session_close
def note_closed(session: Any) -> None:
    note("X", 0, session.name)


@expose
def run(tag: str, what: str, n: int) -> Any:
    call = current().call_id
    session = session_here()
    answer = tag
    try:
        note("S", call, tag)
        if session is not None:
            _begun[session.name] = _begun.get(session.name, 0) + 1
            count = session.get("a", 0)
            if count != session.get("b", 0):
                note("H", 0, session.name)
            session["a"] = count + 1
        try:
            WHAT[what](n)
        except ValueError:
            note("E", call, tag)
            raise
        if session is not None:
            session["b"] = count + 1
            answer = f"{tag} {count + 1} {_begun[session.name]}"
        note("E", call, tag)
    except ValueError:
        raise
    except BaseException:  # wherever the interrupt came, in the notes too
        note("I", call, tag)
        raise
    return answer

