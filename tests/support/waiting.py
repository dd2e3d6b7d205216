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
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}; last: {answer!r}")
        time.sleep(0.003)
