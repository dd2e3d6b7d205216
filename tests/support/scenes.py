"""What tests look at again and again: workers, running calls, and the ledgers that handlers write."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.support.client import Client
from tests.support.daemon import SLOW, Daemon
from tests.support.measured import report
from tests.support.waiting import eventually

Fields = dict[str, Any]


def workers(c: Client, *states: str, pool: str | None = None) -> list[Fields]:
    """The workers in these states; without states all that are not dead."""
    listed: list[Fields] = c.call("workers", **({} if pool is None else {"pool": pool}))
    return [w for w in listed if (w["state"] in states if states else w["state"] != "dead")]


def wait_workers(c: Client, state: str, n: int, *, pool: str | None = None, timeout: float = 10.0) -> list[Fields]:
    """Until n workers are in that state."""

    def look() -> list[Fields]:
        found = workers(c, state, pool=pool)
        return found if len(found) == n else []

    return eventually(look, f"{n} workers are {state}", timeout * SLOW)


def wait_running(c: Client, target: str, n: int = 1) -> list[Fields]:
    """Until n calls of that target run. Their entries in `queue`."""

    def look() -> list[Fields]:
        found = [r for r in c.call("queue") if r["target"] == target and r["state"] == "running"]
        return found if len(found) == n else []

    return eventually(look, f"{n} calls of {target} run", 10.0 * SLOW)


def wait_in_handler(c: Client, worker: int, function: str) -> None:
    """Until the worker is in that function: to the daemon a call runs before its worker has read it."""

    def look() -> bool:
        return f" in {function}\n" in str(c.call("worker.stack", worker=worker)["stack"]) + "\n"

    eventually(look, f"worker {worker} is in {function}", 10.0 * SLOW)


def wait_queued(c: Client, n: int) -> None:
    """Until n requests wait for a worker."""

    def look() -> bool:
        return len([r for r in c.call("queue") if r["state"] == "queued"]) == n

    eventually(look, f"{n} requests wait", 10.0 * SLOW)


def pool_of(c: Client, name: str = "default") -> Fields:
    found: list[Fields] = c.call("pools", pool=name)
    return found[0]


def wait_dead(c: Client, worker: int) -> Fields:
    """Until that worker has been reaped. Its entry in `workers`."""

    def look() -> list[Fields]:
        return [w for w in workers(c, "dead") if w["worker"] == worker]

    return eventually(look, f"worker {worker} is dead", 10.0 * SLOW)[0]


def lines(path: Path) -> list[str]:
    """The lines of a ledger; none when nobody wrote."""
    return path.read_text().splitlines() if path.exists() else []


def notes(path: Path, name: str | None = None) -> list[Fields]:
    """What handlers of the app `recorder` wrote."""
    found: list[Fields] = [json.loads(line) for line in lines(path)]
    return [n for n in found if name is None or n["name"] == name]


def wait_note(path: Path, what: str, name: str, timeout: float = 10.0) -> Fields:
    """Until a handler of the app `recorder` wrote that."""

    def look() -> list[Fields]:
        return [n for n in notes(path, name) if n["what"] == what]

    return eventually(look, f"the handler {name!r} wrote {what!r}", timeout * SLOW)[0]


@contextmanager
def early_client(daemon: Daemon) -> Iterator[Client]:
    """A connection as soon as the daemon listens, before any pool has settled."""

    def connect() -> Client | None:
        try:
            return daemon.client()
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    c = eventually(connect, "the daemon listens", daemon.timeout)
    assert c is not None
    with c:
        yield c


def assert_prompt(what: str, seconds: list[float], *, median: float, worst: float = 0.25) -> None:
    """None is early; the median is within what is promised, and each within what a busy machine may add."""
    text = report(what, seconds)
    assert statistics.median(seconds) < median * SLOW, text
    assert max(seconds) < worst * SLOW, text


def now() -> float:
    """CLOCK_MONOTONIC, as in the handlers and in the daemon."""
    return time.monotonic()


@contextmanager
def failing(daemon: Daemon, call: str, error: str, which: int | Literal["1+"]) -> Iterator[None]:
    """Meanwhile the call of that name that the daemon makes as the `which`-th from now fails; "1+": each does."""
    with injecting(daemon, call, f"error={error}:when={which}"):
        yield


@contextmanager
def injecting(daemon: Daemon, call: str, what: str) -> Iterator[None]:
    """Meanwhile strace does that to the daemon when it makes the call of that name."""
    command = ["strace", "-p", str(daemon.pid), "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
