"""Handlers whose worker is lost in the first try. Each try leaves a line with its pid in a ledger."""
from __future__ import annotations

import os
import signal
import time

from pypool_worker import expose


def _begin(ledger: str) -> int:
    """Which try this is."""
    with open(ledger, "a+", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        return len(file.readlines())


def _die_once(ledger: str) -> int:
    tries = _begin(ledger)
    if tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


@expose(idempotent=True)
def marked(ledger: str) -> int:
    """Dies in its first try, then answers how many there were."""
    return _die_once(ledger)


@expose
def unmarked(ledger: str) -> int:
    """The same, but nothing says that it may be run again."""
    return _die_once(ledger)


@expose(idempotent=True)
def always(ledger: str) -> None:
    """Dies in each."""
    _begin(ledger)
    os.kill(os.getpid(), signal.SIGKILL)


@expose(idempotent=True)
def hangs(ledger: str) -> None:
    """Sleeps, and nothing but the death of its worker ends it."""
    _begin(ledger)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


@expose(idempotent=True)
def dies_then_hangs(ledger: str) -> None:
    """Dies in its first try, sleeps in its second."""
    _die_once(ledger)
    time.sleep(60)


@expose
def pid() -> int:
    return os.getpid()
