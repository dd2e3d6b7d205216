"""What a failure must tell: code, executed, the whole message, and the keys of its cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support import daemon
from tests.support.client import CallError, Client
from tests.support.waiting import eventually

DATA = Path(__file__).resolve().parent / "data"
AT = re.escape(str(DATA))
SYSTEM = re.escape(daemon.PYTHON) + r" \(Python 3\.\d+\.\d+\)"
WORKER = r"worker \d+ \(pid \d+\)"
TIME = r"(\d+ ms|\d+(\.\d+)? s|\d+ min \d+ s)"
INIT_KEYS = "reason phase init exit output"


def pool(app: str, workers: int = 1, **settings: daemon.Value) -> dict[str, daemon.Value]:
    """A pool of tests/diagnosis/data."""
    return daemon.pool(app, workers, path=[str(DATA)], **settings)


def check(error: CallError, code: str, executed: str, message: str, keys: str = "") -> None:
    """The message matches as a whole; `keys` are all keys of the cause."""
    assert (error.code, error.executed) == (code, executed), error.raw
    assert re.fullmatch(message, error.message), f"the message is:\n{error.message}\nand not:\n{message}"
    assert "\n" not in error.message
    assert sorted(error.cause) == sorted(keys.split()), sorted(error.cause)


def check_init(error: CallError, last: str, keys: str = "") -> dict[str, Any]:
    """The pool is down. `last`: what the last worker failed of; `keys` beside those of each failed init. The cause."""
    wrapped = rf"no worker: init failed \d+ times? since \d\d:\d\d:\d\d, last: {last}; (next try in {TIME}|the next try is on its way)"
    check(error, "init_failed", "never", wrapped, f"{INIT_KEYS} {keys}")
    assert error.fields["phase"] == error.cause["phase"]
    return error.cause


def wait_begun(c: Client) -> None:
    """Until the handler `slow` has begun: before that the daemon may send the call to another worker when one dies."""
    eventually(lambda: any(line["text"] == "slow begins" for line in c.call("logs")), "slow has begun", 10 * daemon.SLOW)
