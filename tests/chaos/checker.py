"""The invariants, asserted from the histories of clients and workers and from what the daemon says of itself.

18 (no watcher without its object) has no check here: the daemon itself says BUG in its log, which fails the run, as does
what a sanitizer prints (19) and a process that is left behind (12).
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.history import (
    Call, Closed, Edit, Event, History, Lease, Opened, Outage, Seen, Step, Story, by_tag, by_worker,
)
from tests.chaos.scenes import POISON, PYTHON_POOLS, STRICT_POOLS

# What a call may end with; anything else is a mistake of the daemon or of the run.
CODES = {
    "ok", "queue_timeout", "deadline_exceeded", "cancelled", "worker_died", "worker_protocol", "init_failed",
    "overloaded", "circuit_open", "lease_expired", "lease_not_found", "app_error", "duplicate_id", "session_lost",
}
EARLY = 0.010  # the daemon counts from the turn in which it reads the request
LATE = 1.5
BACKOFF = 0.075  # the first pause between two failed starts, at the least
APART = 0.05  # two failed starts that did not die together


def check_calls(history: History, events: list[Event]) -> Iterator[str]:
    """1 one response each. 2 to the right one (the rest of it is seen as replies come). 4, 5 executed as told."""
    runs = by_tag(events)
    for call in history.calls:
        mine = runs.get(call.tag, [])
        starts = sum(e.letter == "S" for e in mine)
        ends = sum(e.letter == "E" for e in mine)
        if not call.code:
            if not call.closed:
                yield f"invariant 1: lost: {call}"
        elif call.code not in CODES:
            yield f"invariant 1: an unexpected end: {call}"
        elif call.code == "app_error" and call.what != "fail":
            yield f"invariant 2: an error of another call: {call}"
        if starts > 1:
            yield f"invariant 4: started {starts} times: {call}"
        if call.executed == "never" and starts:
            yield f"invariant 4: told never, and started: {call}"
        if call.code == "ok" and (starts, ends) != (1, 1):
            yield f"invariant 5: a success with {starts} starts and {ends} ends: {call}"
        if call.executed == "yes" and starts != 1:
            yield f"invariant 5: told yes, with {starts} starts: {call}"
        if call.code == "ok" and call.pool not in PYTHON_POOLS and mine and mine[0].worker != str(call.worker):
            yield f"invariant 5: it ran on worker {mine[0].worker}, and the daemon says {call.worker}: {call}"
    known = {call.tag for call in history.calls}
    for tag in runs:
        if tag not in known and not tag.startswith(POISON):
            yield f"invariant 4: {tag} ran, and nobody has sent it"


def check_workers(events: list[Event]) -> Iterator[str]:
    """3 one call at a time. 11 files. 14 nothing before ready, nothing after a broken protocol."""
    for worker, its in by_worker(events).items():
        running: Event | None = None
        is_ready = False
        for e in its:
            if e.letter == "R":
                is_ready = True
            elif e.letter in "DX":
                continue
            elif e.letter == "H":
                yield f"invariant 6: worker {worker} was sent half of what a call of a session had written: {e}"
            elif e.letter == "F":
                yield f"invariant 11: worker {worker} has fd {e.call} open"
            elif e.letter == "B" or not is_ready:
                yield f"invariant 14: worker {worker} got a call before it was ready"
            elif e.letter == "S":
                if running is not None:
                    yield f"invariant 3: worker {worker} began {e.tag} while {running.tag} ran, or after it went wrong"
                running = e
            else:
                running = None


def check_poison(events: list[Event], most: int) -> Iterator[str]:
    """15 a call that kills its worker does so `most` times: as often as it may, or as many as run when the first dies. A
    run is shorter than the time after which it is forgotten."""
    for tag, its in by_tag(events).items():
        kills = sum(e.letter == "S" for e in its)
        if tag.startswith(POISON) and kills > most:
            yield f"invariant 15: {tag} was started {kills} times, {most} are enough"


def check_outages(outages: list[Outage], events: list[Event], workers: int, opened: int) -> Iterator[str]:
    """15 while no start succeeds there are as many as the back-off allows, and the breaker opens.

    All may be starting when it begins; then one is tried at once, one after 75 ms at least, and each later one after twice
    the time of the one before. Two more, if one that had just started answers a call: that ends the back-off once.
    """
    failed = sorted(e.time for e in events if e.letter == "D")
    persistent = 0
    for outage in outages:
        its = failed[bisect.bisect_left(failed, outage.begun) : bisect.bisect_right(failed, outage.ended)]
        allowed = workers + 4 + int(math.log2((outage.ended - outage.begun) / BACKOFF + 1))
        if len(its) > allowed:
            yield f"invariant 15: {len(its)} starts in {outage}, {allowed} are allowed"
        # those that die together count once
        persistent += sum(b - a > APART for a, b in zip(its, its[1:])) >= 2
    if opened < persistent:
        yield f"invariant 15: the breaker opened {opened} times in {persistent} outages with failures in a row"


def check_recycling(workers: list[int], limit: int, patience: int) -> Iterator[str]:
    """workers: of one call after the other in a quiet pool. One that is used up goes on only until its replacement is
    ready: for `patience` calls at the most."""
    for worker, n in Counter(workers).items():
        if n > limit + patience:
            yield f"recycling: worker {worker} has answered {n} calls in a row, {limit} are its most"


def check_leases(history: History, events: list[Event]) -> Iterator[str]:
    """7 while one client has a worker, nobody else's call begins there, and no call of the lease begins elsewhere."""
    by_lease = {lease.lease: lease for lease in history.leases}
    lease_of = {call.tag: call.lease for call in history.calls}
    starts: defaultdict[str, list[Event]] = defaultdict(list)
    for e in events:
        if e.letter == "S":
            starts[e.worker].append(e)
            lease = by_lease.get(lease_of.get(e.tag, 0))
            if lease is not None and not lease.is_of(e.worker):
                yield f"invariant 7: {e.tag} of {lease} ran on worker {e.worker}"
    for worker, its in starts.items():
        at = [e.time for e in its]
        for lease in history.leases:
            if lease.is_of(worker):
                for e in its[bisect.bisect_left(at, lease.begun) : bisect.bisect_right(at, lease.ended)]:
                    if lease_of.get(e.tag) != lease.lease:
                        yield f"invariant 7: {e.tag} began on worker {worker} during {lease}"
    yield from check_holders(history.leases)


class Home:
    """Where a session's calls run from one opening to the next."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.is_strict = story.pool in STRICT_POOLS
        self.last = 0.0  # when the last call began
        self.open()

    def open(self) -> None:
        self.worker = ""
        self.started = self.begun = 0  # calls that began there; what the last of them was told of that
        self.lost = ""  # the call that was told

    def check(self, call: Call, starts: list[Event]) -> Iterator[str]:
        for e in starts:
            if e.time < self.last:
                yield f"invariant 6: {self.story}: out of order: {call}"
            if self.lost:
                yield f"invariant 6: {self.story}: it began after {self.lost} was told that the session is lost: {call}"
            if self.is_strict and self.worker not in ("", e.worker):
                yield f"invariant 6: {self.story}: ran on worker {e.worker}, and those before on {self.worker}: {call}"
            self.last = e.time
            self.started += 1
            self.worker = e.worker
        if self.is_strict and call.code == "ok":
            most = call.begun if self.story.pool in PYTHON_POOLS else self.started  # in Python sessions of one name share it
            if not self.begun < call.begun <= most:
                yield (f"invariant 6: {self.story}: call {call.begun} for its worker after call {self.begun}, of "
                       f"{self.started} that began: {call}")
            self.begun = call.begun
        if call.code == "session_lost":
            self.lost = self.lost or call.tag
            if not self.is_strict:
                yield f"invariant 6: {self.story}: lost, and not strict: {call}"


def after_step(step: Step, may: set[int]) -> tuple[set[int], str]:
    """The counts that may be in the session's values after a step, and what is wrong with it, or ""."""
    if isinstance(step, Call):
        if step.code == "ok":
            wrong = "" if step.count - 1 in may else f"counts {step.count} after one of {sorted(may)}"
            return {step.count}, wrong
        return (may | {count + 1 for count in may} if step.closed else may), ""
    if isinstance(step, Edit):
        if step.code == "ok":
            return {step.count}, ""
        return (may | {step.count} if step.code == "closed" else may), ""
    if isinstance(step, Closed):
        return {0}, ""
    if isinstance(step, Seen):
        if step.a != step.b:
            return {step.a}, f"half of what was written: {step.a} and {step.b}"
        return {step.a}, "" if step.a in may else f"{step.a} is in it, and not one of {sorted(may)}"
    return may, ""


def span_of(call: Call, its: list[Event], last: dict[str, float]) -> tuple[float, float, Call] | None:
    """From its start until its end or, when there is none, as long as its worker is known to have lived."""
    begun = next((e for e in its if e.letter == "S"), None)
    if begun is None:
        return None
    return begun.time, next((e.time for e in its if e.letter in "EI"), last[begun.worker]), call


def check_overlaps(story: Story, runs: dict[str, list[Event]], last: dict[str, float]) -> Iterator[str]:
    """6 no two calls of a session at once, also when one of them was answered early and the session closed or lost."""
    spans = [span_of(step, runs.get(step.tag, []), last) for step in story.steps if isinstance(step, Call)]
    until, before = 0.0, ""
    for begun, ended, call in sorted((span for span in spans if span is not None), key=lambda span: span[0]):
        if begun < until:
            yield f"invariant 6: {story}: it began while {before} ran: {call}"
        if ended > until:
            until, before = ended, call.tag


def check_stories(history: History, events: list[Event]) -> Iterator[str]:
    """6 each session in order and, when it is strict, on one worker until it is opened again; no write is lost, none
    is kept of a call that failed, and none by half."""
    runs = by_tag(events)
    last = {e.worker: e.time for e in events}
    for story in history.stories:
        yield from check_overlaps(story, runs, last)
        home, may = Home(story), {0}
        for step in story.steps:
            may, wrong = after_step(step, may)
            if wrong:
                yield f"invariant 6: {story}: {wrong}: {step}"
            if isinstance(step, Call):
                yield from home.check(step, [e for e in runs.get(step.tag, []) if e.letter == "S"])
            elif isinstance(step, Closed) or (isinstance(step, Opened) and step.fresh):
                home.open()
    yield from check_hooks(history.stories, events)


def count_stories(stories: list[Story]) -> tuple[int, int, int]:
    """Calls in sessions, those that were told of a loss, looks at the values; for people."""
    steps = [step for story in stories for step in story.steps]
    calls = [step for step in steps if isinstance(step, Call)]
    return len(calls), sum(call.code == "session_lost" for call in calls), sum(isinstance(step, Seen) for step in steps)


def check_hooks(stories: list[Story], events: list[Event]) -> Iterator[str]:
    """6 the hooks of a session run once at the most, and once more where it was lost to a worker that was replaced."""
    ended = Counter(e.tag for e in events if e.letter == "X")
    for story in stories:
        closes = sum((isinstance(step, Closed) and step.was_there) or step == Opened(True) for step in story.steps)
        by_itself = bool(story.steps) and not isinstance(story.steps[-1], Closed)
        if ended[story.name] > closes + by_itself:
            yield f"invariant 6: {story}: closed {closes} times, its hooks ran {ended[story.name]} times"


def check_holders(leases: list[Lease]) -> Iterator[str]:
    by_holder: defaultdict[int, list[Lease]] = defaultdict(list)
    for lease in leases:
        if lease.begun < lease.ended:  # else its ttl was over before its holder heard of it
            by_holder[lease.worker].append(lease)
    for its in by_holder.values():
        its.sort(key=lambda lease: lease.begun)
        for a, b in zip(its, its[1:]):
            if b.begun < a.ended:
                yield f"invariant 7: two holders: {a} and {b}"


def check_times(history: History, slow: float) -> Iterator[str]:
    """16 no timeout early, none late."""
    for call in history.calls:
        if not call.done:
            continue
        took = call.done - call.sent
        if call.code == "deadline_exceeded" and took < call.timeout - EARLY * slow:
            yield f"invariant 16: early: {call}"
        if took > call.timeout + LATE * slow:
            yield f"invariant 16: late: {call}"


def worst_times(calls: list[Call]) -> str:
    """The earliest and the latest deadline, for people."""
    margins = [call.done - call.sent - call.timeout for call in calls if call.code == "deadline_exceeded"]
    return f"{min(margins) * 1e3:+.1f} ms to {max(margins) * 1e3:+.1f} ms" if margins else "none"


def check_counters(history: History, counters: dict[str, int]) -> Iterator[str]:
    """8 all that was accepted has ended, and as the clients saw it."""
    ended = sum(counters[key] for key in ("completed", "failed", "cancelled", "abandoned"))
    if counters["queued"] or counters["running"] or counters["accepted"] != ended:
        yield f"invariant 8: {counters}"
    calls = [call for call in history.calls if not call.direct]
    seen = sum(call.code == "ok" for call in calls)
    unseen = sum(call.closed for call in calls)
    others = counters["leases"] + 2 * history.counts["closes"] + history.counts["edits"] + len(history.stories)
    if not seen <= counters["completed"] <= seen + unseen + others:
        yield f"invariant 8: completed {counters['completed']}, clients saw {seen}, and {unseen} were not seen"


def check_spawns(pool: dict[str, int], living: int) -> Iterator[str]:
    """13 as many as there should be. 15 one replacement for each that died, no more."""
    if not pool["min_workers"] == living == pool["idle"]:
        yield f"invariant 13: {living} workers, {pool['idle']} of them idle, when all is quiet: {pool}"
    if pool["spawned"] != pool["died"] + living:
        yield f"invariant 15: {pool['spawned']} spawned, {pool['died']} died, {living} live"
