"""Waiting with a deadline: no test waits for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """Look again and again until the answer is true, and return it.

    For what has no event to wait on, such as /proc. Raises AssertionError that says `what` and the last answer when it is
    still false after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}; last: {answer!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def until_fine(look: Callable[[], str], timeout: float = 10.0) -> None:
    """Look again and again until nothing is wrong: look() says what is, or "".

    Raises AssertionError with its last answer after `timeout` seconds.
    """
    last = ""

    def is_fine() -> bool:
        nonlocal last
        last = look()
        return not last

    try:
        eventually(is_fine, "all is fine", timeout)
    except AssertionError:
        raise AssertionError(f"after {timeout} s still: {last}") from None
