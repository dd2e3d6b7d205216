"""What the clients and the workers have written down."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple, Union


class Call:
    """One call of one client, from its side."""

    __slots__ = (
        "tag", "pool", "what", "n", "timeout", "lease", "sent", "done", "code", "executed", "worker", "closed", "future",
        "direct", "session", "count", "begun",
    )

    def __init__(self, tag: str, pool: str, what: str, n: int, timeout: float, lease: int) -> None:
        self.tag = tag
        self.pool = pool
        self.what = what
        self.n = n
        self.timeout = timeout  # seconds until its deadline
        self.lease = lease
        self.sent = 0.0
        self.done = 0.0
        self.code = ""  # "ok", or that of the error; "": no reply
        self.executed = ""
        self.worker = 0
        self.closed = False  # its connection ended before its reply came
        self.future: asyncio.Future[None] | None = None
        self.direct = False  # it did not go by way of the daemon
        self.session = ""
        self.count = 0  # of a success in a session: in its values, this call included
        self.begun = 0  # and how many of the session's calls its worker has begun

    def __str__(self) -> str:
        took = f" after {self.done - self.sent:.3f} s" if self.done else ""
        return f"{self.tag} ({self.pool} {self.what} {self.n}, timeout {self.timeout} s): " + (
            f"{self.code}/{self.executed}{took}" if self.code else "no reply"
        )


class Edit:
    """A session.put of the counts, or a session.delete of both, which is a put of 0."""

    __slots__ = ("count", "code", "answer")

    def __init__(self, count: int) -> None:
        self.count = count
        self.code = ""  # "ok", or that of the error; "": not known
        self.answer: asyncio.Future[Any] | None = None  # done when code is known


class Opened(NamedTuple):
    """It was opened, again or anew, with nothing under way. fresh: it was not there, or lost."""

    fresh: bool


class Closed(NamedTuple):
    """With nothing under way. was_there: what the daemon answered."""

    was_there: bool


class Seen(NamedTuple):
    """The counts in its values, with nothing under way."""

    a: int
    b: int


Step = Union[Call, Edit, Opened, Closed, Seen]


class Story:
    """A session as its only client tells it: what it did, in order."""

    def __init__(self, name: str, pool: str) -> None:
        self.name = name
        self.pool = pool
        self.steps: list[Step] = []

    def __str__(self) -> str:
        return f"session {self.name} of {self.pool}"


class Lease(NamedTuple):
    """A time in which its holder surely had it: from the answer to checkout until it may have ended."""

    lease: int
    worker: int
    pid: int
    client: str
    begun: float
    ended: float

    def is_of(self, worker: str) -> bool:
        return worker == str(self.worker) or worker.startswith(f"p{self.pid}.")


class Outage(NamedTuple):
    """A time in which no start of a worker of the pool storm succeeds."""

    begun: float
    ended: float


class Event(NamedTuple):
    letter: str
    worker: str
    call: int
    tag: str
    time: float


class History:
    """All that was seen. `trouble`: what is wrong for sure at the moment it is seen."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.leases: list[Lease] = []
        self.stories: list[Story] = []
        self.outages: list[Outage] = []
        self.trouble: list[str] = []
        self.counts: defaultdict[str, int] = defaultdict(int)  # of kills and the like

    def complain(self, invariant: int, what: str) -> None:
        self.trouble.append(f"invariant {invariant}: {what}")

    def summary(self) -> dict[str, int]:
        found: defaultdict[str, int] = defaultdict(int)
        for call in self.calls:
            found[f"{call.code}/{call.executed}" if call.code else "closed" if call.closed else "lost"] += 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def read_events(log: Path) -> list[Event]:
    """The log of the workers, in the order in which it was written."""
    found = []
    for line in log.read_text().splitlines():
        letter, worker, call, tag, ns = line.split(" ")
        found.append(Event(letter, worker, int(call), tag, int(ns) / 1e9))
    return found


def by_tag(events: list[Event]) -> dict[str, list[Event]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for e in events:
        if e.letter in "SEI":
            found[e.tag].append(e)
    return found


def by_worker(events: list[Event]) -> dict[str, list[Event]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for e in events:
        found[e.worker].append(e)
    return found

