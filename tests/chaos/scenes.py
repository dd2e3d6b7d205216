"""What clients do. Each scene draws all its choices from the `rng` of its client, so that a seed fixes the plan; when
things happen is up to the machine."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.history import Call, Closed, Edit, History, Lease, Opened, Outage, Seen, Story
from tests.chaos.holder import DirectLink, Holder
from tests.chaos.link import Framing, Link, connect
from tests.support import procfs

CALL_TIMEOUT = 5.0  # of the pools
DOWN = b"STUB_DOWN="  # in the environment of the workers of the pool storm
POISON = "poison-"  # begins the tag of a call that kills, and that is sent again and again
PATIENCE = 30.0  # until a call that has no reply is lost

# what a stub does wrong, and the largest n for it
STUB_MISDEEDS = (
    ("die", 140), ("reply_and_die", 140), ("cut", 8), ("garbage", 7), ("wrong_id", 10), ("twice", 4), ("unasked", 4),
    ("request", 1), ("hang", 1), ("wall", 1), ("late", 250), ("noise", 256), ("close", 7), ("orphan", 300), ("stop", 1),
)
# what concerns others than its client, and what outlives the worker
DIRECT_MISDEEDS = (("die", 140), ("hang", 1), ("wall", 1), ("late", 250), ("noise", 256), ("orphan", 300), ("stop", 1))
PYTHON_MISDEEDS = (("die", 140), ("spin", 100), ("deaf", 250), ("noise", 64), ("fail", 9), ("close", 1))
PYTHON_POOLS = ("python", "moving")
STRICT_POOLS = ("stub", "python", "storm")  # of those with sessions
SESSION_POOLS, SESSION_WEIGHTS = ("stub", "prefer", "python", "moving", "storm"), (50, 34, 4, 8, 4)
TICKS = os.sysconf("SC_CLK_TCK")
SIGNALS = (1, 2, 4, 6, 8, 9, 11, 13, 15)  # that end a stub


class World:
    """Where a scene takes place."""

    def __init__(self, path: str, history: History) -> None:
        self.path = path
        self.history = history
        self.last_tag = 0

    def new_story(self, name: str, pool: str) -> Story:
        self.last_tag += 1
        story = Story(f"{name}-{self.last_tag}", pool)
        self.history.stories.append(story)
        return story

    def new_call(self, name: str, pool: str, what: str, n: int, options: dict[str, Any]) -> Call:
        self.last_tag += 1
        timeout = options.get("timeout_ms", CALL_TIMEOUT * 1000) / 1000
        return Call(f"{name}-{self.last_tag}", pool, what, n, timeout, options.get("lease", 0))


def misdeed(rng: Random, pool: str) -> tuple[str, int]:
    what, limit = rng.choice(PYTHON_MISDEEDS if pool in PYTHON_POOLS else STUB_MISDEEDS)
    n = rng.randrange(limit)
    if what in ("die", "reply_and_die") and n >= 100:
        n = 100 + rng.choice(SIGNALS)
    elif what == "close" and n in (1, 2):
        n = 0
    return what, n


def ordinary(rng: Random, pool: str) -> tuple[str, int]:
    roll = rng.random()
    if roll < 0.86:
        return "echo", 0
    if roll < 0.94:
        return "sleep", rng.randrange(8)
    if roll < 0.97 or pool in PYTHON_POOLS:
        return "fail", rng.randrange(8)
    return "big", rng.choice((100, 5000, 70000, 300000))


def edit_code(error: Any) -> str:
    return "ok" if error is None else str(error["code"])


def times(rng: Random) -> dict[str, Any]:
    """Now and then a call has a limit that may well be met."""
    roll = rng.random()
    if roll < 0.04:
        return {"timeout_ms": rng.randrange(1, 60)}
    if roll < 0.08:
        return {"queue_timeout_ms": rng.randrange(1, 60)}
    return {}


class Client:
    """One client: a connection that it keeps, a random plan, and scenes."""

    def __init__(self, world: World, number: int, seed: int) -> None:
        self.world = world
        self.name = f"c{number}"
        self.rng = Random(f"{seed} client {number}")
        self.framing: Framing = "bare" if number % 3 == 0 else "prefixed"
        self.link: Link | None = None

    async def run(self, is_over: Callable[[], bool]) -> None:
        scenes = [scene for scene, weight in SCENES for _ in range(weight)]
        while not is_over():
            await self.rng.choice(scenes)(self)
        if self.link is not None:
            self.link.close()
            await self.link.ended

    # ---- tools

    async def kept_link(self) -> Link:
        if self.link is None or self.link.ended.done():
            self.link = await self.new_link()
        return self.link

    async def new_link(self) -> Link:
        return await connect(self.world.path, self.world.history, self.name, self.framing)

    def pool(self) -> str:
        pools, weights = ("stub", "flaky", "python", "storm", "prefer", "moving"), (63, 7, 4, 5, 18, 3)
        return self.rng.choices(pools, weights)[0]

    def call(self, link: Link, pool: str, what: str, n: int, options: dict[str, Any]) -> tuple[Call, bytes]:
        call = self.world.new_call(self.name, pool, what, n, options)
        return call, link.prepare(call, options)

    def calls(self, link: Link, count: int, pool: str, wicked: float = 0.0, **more: Any) -> list[Call]:
        """That many calls in one write. wicked: the share of misdeeds, each with a deadline that ends it."""
        made, data = [], bytearray()
        for _ in range(count):
            options = {**times(self.rng), **more}
            what, n = ordinary(self.rng, pool)
            if self.rng.random() < wicked:
                what, n = misdeed(self.rng, pool)
                options["timeout_ms"] = self.rng.randrange(80, 300)
            call, frame = self.call(link, pool, what, n, options)
            made.append(call)
            data += frame
        link.write(bytes(data))
        return made

    async def wait(self, calls: list[Call]) -> None:
        """Until all have ended, one way or another. One that does not is lost, which the checker will find."""
        futures = [call.future for call in calls if call.future is not None]
        if futures:
            await asyncio.wait(futures, timeout=PATIENCE)
        if any(call.code in ("init_failed", "circuit_open") for call in calls):
            await self.pause(100)  # the pool is down for a moment: what a client would do

    async def pause(self, most_ms: int) -> None:
        """Lets the attack fall into any moment of what the daemon does: waits for nothing."""
        await asyncio.sleep(self.rng.randrange(most_ms + 1) / 1000)

    # ---- scenes

    async def pipeline(self) -> None:
        await self.wait(self.calls(await self.kept_link(), self.rng.randrange(1, 40), self.pool()))

    async def wickedness(self) -> None:
        pool = self.pool()
        await self.wait(self.calls(await self.kept_link(), self.rng.randrange(1, 12), pool, wicked=0.3))

    async def cancelling(self) -> None:
        link = await self.kept_link()
        pool = self.pool()
        calls, cancels = [], []
        for _ in range(self.rng.randrange(1, 6)):
            call, frame = self.call(link, pool, "sleep", self.rng.randrange(30), {})
            number = link.last_id
            link.write(frame)
            await self.pause(self.rng.choice((0, 0, 5, 30)))
            calls.append(call)
            cancels.append(link.ask("cancel", id=number))
        await self.wait(calls)
        for call, cancel in zip(calls, cancels):
            error, found = await asyncio.wait_for(cancel, PATIENCE)
            if error is None and call.code and found != (call.code == "cancelled"):
                self.world.history.complain(1, f"cancel answered {found}, and its call {call}")

    async def half_close(self) -> None:
        link = await self.new_link()
        calls = self.calls(link, self.rng.randrange(1, 20), self.pool())
        assert link.transport is not None
        link.transport.write_eof()
        await self.wait(calls)
        try:
            await asyncio.wait_for(asyncio.shield(link.ended), PATIENCE)
        except asyncio.TimeoutError:
            self.world.history.complain(1, f"{self.name}: half closed, and the daemon does not close")
        for call in calls:
            if not call.code:
                self.world.history.complain(1, f"half closed, and no reply to {call}")
        link.close()

    async def disconnect(self) -> None:
        link = await self.new_link()
        self.calls(link, self.rng.randrange(1, 20), self.pool(), wicked=0.05)
        await self.pause(self.rng.choice((0, 2, 20)))
        link.close()
        await link.ended

    async def garbage(self) -> None:
        link = await self.new_link()
        calls = self.calls(link, self.rng.randrange(0, 6), "stub")
        await self.pause(2)
        bad = self.rng.choice((b"\xc1", b"\x94\x00", b"\x00\x00\x00\x00", b"\xdd\xff\xff\xff\xff", self.rng.randbytes(64)))
        if self.framing == "prefixed" and self.rng.random() < 0.7:
            bad = struct.pack(">I", len(bad)) + bad
        link.write(bad)
        await self.pause(20)
        link.close()
        await self.wait(calls)

    async def drip(self) -> None:
        """A frame in pieces; sometimes its end never comes."""
        link = await self.new_link()
        call, frame = self.call(link, "stub", "echo", 0, {})
        is_whole = self.rng.random() < 0.7
        end = len(frame) if is_whole else self.rng.randrange(len(frame))
        at = 0
        while at < end:
            step = self.rng.randrange(1, 24)
            link.write(frame[at : min(end, at + step)])
            at += step
            await asyncio.sleep(0)
        if is_whole:
            await self.wait([call])
        link.close()
        await link.ended

    async def same_id(self) -> None:
        link = await self.kept_link()
        first = self.world.new_call(self.name, "stub", "sleep", 100, {})
        second = self.world.new_call(self.name, "stub", "echo", 0, {})
        link.last_id += 1
        link.write(link.prepare(first, {}, link.last_id) + link.prepare(second, {}, link.last_id))
        await self.wait([first, second])
        at_once = ("init_failed", "circuit_open", "overloaded", "")  # nothing is in flight after that
        if first.code == "duplicate_id" or (second.code not in ("duplicate_id", "") and first.code not in at_once):
            self.world.history.complain(1, f"the same id twice: {first}; {second}")

    async def refused(self) -> None:
        """What the daemon answers without a worker."""
        link = await self.kept_link()
        asked = [
            link.ask("ping"),
            link.ask("execute", target="run", pool="nowhere"),
            link.ask("checkout", type="shared"),
            link.ask("execute", target="run", pool="stub", lease=2**40 + self.rng.randrange(100)),
            link.ask("checkin", lease=2**40),
        ]
        expected = ("", "unknown_pool", "invalid_checkout_type", "lease_not_found", "lease_not_found")
        for future, code in zip(asked, expected):
            error, _ = await asyncio.wait_for(future, PATIENCE)
            got = "" if error is None else error["code"]
            if got not in (code, "closed"):
                self.world.history.complain(1, f"expected {code or 'success'}, got {error}")

    async def lease(self) -> None:
        link = await (self.new_link() if self.rng.random() < 0.3 else self.kept_link())
        pool = self.rng.choice(("stub", "stub", "stub", "python"))
        ttl = self.rng.choice((20, 100, 5000))
        asked = time.monotonic()
        error, lent = await asyncio.wait_for(link.ask("checkout", type="anonymous", pool=pool, ttl_ms=ttl), PATIENCE)
        begun = time.monotonic()
        if error is None:
            calls = self.calls(link, self.rng.randrange(0, 8), pool, wicked=0.05, lease=lent["lease"])
            if self.rng.random() < 0.7:
                await self.wait(calls)
            ended = min(time.monotonic(), asked + ttl / 1000)
            self.world.history.leases.append(Lease(lent["lease"], lent["worker"], lent["pid"], self.name, begun, ended))
            await self.give_back(link, lent["lease"], pool, ttl)
            await self.wait(calls)
        if link is not self.link:
            link.close()
            await link.ended

    async def give_back(self, link: Link, lease: int, pool: str, ttl: int) -> None:
        """By checkin, by its ttl, or not at all: the end of the connection does it."""
        how = self.rng.random()
        if how < 0.3 and link is not self.link:
            return
        if how < 0.5 and ttl <= 100:
            await self.outlive(link, lease, pool, ttl)
        await asyncio.wait_for(link.ask("checkin", lease=lease), PATIENCE)

    async def outlive(self, link: Link, lease: int, pool: str, ttl: int) -> None:
        """Calls with the lease until it has ended by itself, which is soon after its ttl, whatever it still runs."""
        deadline = time.monotonic() + ttl / 1000 + PATIENCE
        while time.monotonic() < deadline:
            late, frame = self.call(link, pool, "echo", 0, {"lease": lease})
            link.write(frame)
            await self.wait([late])
            if late.code in ("lease_expired", ""):
                return
            await self.pause(ttl)
        self.world.history.complain(7, f"{late} with a lease that ended {lease}")

    async def direct(self) -> None:
        """A lease whose calls go to the worker itself. However it ends, its socket ends with it."""
        holder = await Holder.open(self.world.path, self.name)
        pool = self.rng.choice(("stub", "stub", "python", "prefer"))
        ttl = self.rng.choice((20, 100, 5000))
        kind: dict[str, Any] = {"type": "anonymous"}
        story = self.world.new_story(self.name, pool) if self.rng.random() < 0.3 else None
        if story is not None:
            kind = {"type": "session", "session": story.name}
        asked = time.monotonic()
        error, lent = await asyncio.wait_for(
            holder.ask("checkout", pool=pool, ttl_ms=ttl, direct=True, **kind), PATIENCE
        )
        if error is None:
            begun = time.monotonic()
            link = await holder.link(self.world.history, self.name, lent["worker"])
            calls = self.direct_calls(link, pool, lent["lease"], wicked=0.1 if ttl <= 100 else 0.0)
            if ttl > 100 and self.rng.random() < 0.6:
                await self.wait(calls)
            ended = min(time.monotonic(), asked + ttl / 1000)
            self.world.history.leases.append(Lease(lent["lease"], lent["worker"], lent["pid"], self.name, begun, ended))
            await self.end_direct(holder, link, lent["lease"], ttl)
            await self.wait(calls)
        holder.close()
        if story is not None:
            await self.end_session(story)

    def direct_calls(self, link: DirectLink, pool: str, lease: int, wicked: float) -> list[Call]:
        made, data = [], bytearray()
        for _ in range(self.rng.randrange(20)):
            what, n = ordinary(self.rng, pool)
            if self.rng.random() < wicked:
                what, limit = self.rng.choice(PYTHON_MISDEEDS if pool == "python" else DIRECT_MISDEEDS)
                n = self.rng.randrange(limit)
                n = 100 + self.rng.choice(SIGNALS) if what == "die" and n >= 100 else n
            call, frame = self.call(link, pool, what, n, {"lease": lease})
            made.append(call)
            data += frame
        link.write(bytes(data))
        return made

    async def end_direct(self, holder: Holder, link: DirectLink, lease: int, ttl: int) -> None:
        """By checkin, by either end of it, by its ttl. The socket is at its end then, at this side too."""
        how = self.rng.random()
        if how < 0.4:
            await asyncio.wait_for(holder.ask("checkin", lease=lease), PATIENCE)
        elif how < 0.6:
            link.close()
        elif how < 0.8 or ttl > 100:
            holder.close()
        try:
            await asyncio.wait_for(asyncio.shield(link.ended), PATIENCE)
        except asyncio.TimeoutError:
            self.world.history.complain(7, f"{self.name}: the socket of lease {lease} outlives it")
            link.close()

    # ---- sessions

    async def session(self) -> None:
        """A session of this client alone, from its first call to its end."""
        story = self.world.new_story(self.name, self.rng.choices(SESSION_POOLS, SESSION_WEIGHTS)[0])
        acts = (self.work, self.work, self.work, self.vanish, self.read, self.reopen, self.close_and_go_on, self.borrow)
        for _ in range(self.rng.randrange(1, 7)):
            await self.rng.choice(acts)(story)
        if self.rng.random() < 0.05:
            story.steps.append(Opened(await self.open_session(story, ttl_ms=self.rng.randrange(1, 60))))
            return  # it ends by itself
        await self.read(story)
        await self.end_session(story)

    async def ask_about(self, story: Story, method: str, **params: Any) -> tuple[Any, Any]:
        """Of its session; asked again when the connection ends meanwhile."""
        while True:
            link = await self.kept_link()
            asked = link.ask(method, session=story.name, pool=story.pool, **params)
            error, answer = await asyncio.wait_for(asked, PATIENCE)
            if error is None or error["code"] != "closed":
                return error, answer

    async def open_session(self, story: Story, **params: Any) -> bool:
        error, answer = await self.ask_about(story, "session.open", **params)
        if error is None:
            return bool(answer["opened"])
        self.world.history.complain(6, f"{story}: session.open: {error}")
        return False

    async def end_session(self, story: Story) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            error, was_there = await self.ask_about(story, "session.close")
            self.world.history.counts["closes"] += 1
            if error is None or error["code"] != "session_busy" or time.monotonic() > deadline:
                break
            await self.pause(2)  # the end of the connection that had leased it is not known yet
        if error is not None:
            self.world.history.complain(6, f"{story}: session.close: {error}")
        story.steps.append(Closed(was_there is True))

    def session_calls(self, story: Story, link: Link, wicked: float, **more: Any) -> list[Call]:
        """Of one session, in order, with what else changes its values."""
        made: list[Call] = []
        for _ in range(self.rng.randrange(1, 10)):
            if self.rng.random() < 0.12:
                self.edit(story, link)
                continue
            more = more or {"session": story.name}
            call = self.calls(link, 1, story.pool, wicked, **more)[0]
            number = link.last_id
            call.session = story.name
            story.steps.append(call)
            made.append(call)
            if self.rng.random() < 0.04:
                link.ask("cancel", id=number)
        return made

    def edit(self, story: Story, link: Link) -> None:
        self.world.history.counts["edits"] += 1
        edit = Edit(self.rng.choice((0, 1000)) * len(story.steps))
        if edit.count:
            values = {"a": edit.count, "b": edit.count}
            asked = link.ask("session.put", session=story.name, pool=story.pool, values=values)
        else:
            asked = link.ask("session.delete", session=story.name, pool=story.pool, keys=["a", "b"])
        asked.add_done_callback(lambda f: setattr(edit, "code", edit_code(f.result()[0])))
        edit.answer = asked
        story.steps.append(edit)

    async def settle(self, story: Story) -> None:
        """Until all that was asked in its session has been answered: what comes later finds nothing under way."""
        await self.wait([step for step in story.steps if isinstance(step, Call)])
        edits = [step.answer for step in story.steps if isinstance(step, Edit) and step.answer]
        if edits and (await asyncio.wait(edits, timeout=PATIENCE))[1]:
            self.world.history.complain(1, f"{story}: a put or delete has no answer")

    async def work(self, story: Story) -> None:
        link = await self.kept_link()
        self.session_calls(story, link, self.rng.choice((0.0, 0.0, 0.1)))
        await self.settle(story)

    async def vanish(self, story: Story) -> None:
        """The connection ends; the session stays. When the daemon knows that it has ended, nothing of it is under way."""
        self.world.last_tag += 1
        name = f"{self.name}-{self.world.last_tag}"
        link = await connect(self.world.path, self.world.history, name, self.framing)
        await asyncio.wait_for(link.ask("ping"), PATIENCE)
        self.session_calls(story, link, 0.05)
        await self.pause(self.rng.choice((0, 2, 20)))
        link.close()
        await link.ended
        while True:
            error, clients = await asyncio.wait_for((await self.kept_link()).ask("clients"), PATIENCE)
            if error is None and name not in (client["name"] for client in clients):
                return

    async def read(self, story: Story) -> None:
        error, values = await self.ask_about(story, "session.get")
        if error is None:
            story.steps.append(Seen(values.get("a", 0), values.get("b", 0)))
        elif error["code"] == "session_not_found":
            story.steps.append(Seen(0, 0))
        else:
            self.world.history.complain(6, f"{story}: session.get: {error}")

    async def reopen(self, story: Story) -> None:
        story.steps.append(Opened(await self.open_session(story)))

    async def close_and_go_on(self, story: Story) -> None:
        """The next session of that name is another one."""
        await self.end_session(story)

    async def borrow(self, story: Story) -> None:
        """A lease of the session's worker."""
        link = await self.kept_link()
        ttl = self.rng.choice((20, 100, 5000))
        asked = time.monotonic()
        checkout = link.ask("checkout", type="session", session=story.name, pool=story.pool, ttl_ms=ttl)
        error, lent = await asyncio.wait_for(checkout, PATIENCE)
        if error is not None:
            return
        begun = time.monotonic()
        calls = self.session_calls(story, link, 0.05, lease=lent["lease"])
        if self.rng.random() < 0.7:
            await self.wait(calls)
        intruder = await self.new_link()
        refused, _ = await asyncio.wait_for(
            intruder.ask("session.put", session=story.name, pool=story.pool, values={}, open=False), PATIENCE)
        intruder.close()
        ended = min(time.monotonic(), asked + ttl / 1000)
        self.world.history.leases.append(Lease(lent["lease"], lent["worker"], lent["pid"], self.name, begun, ended))
        self.world.history.counts["edits"] += 1
        error, _ = await asyncio.wait_for(link.ask("checkin", lease=lent["lease"]), PATIENCE)
        if error is None and (refused is None or refused["code"] not in ("session_busy", "closed")):
            self.world.history.complain(7, f"{story}: leased, and another connection is answered {refused}")
        await self.settle(story)

    async def poison(self) -> None:
        """Calls that always kill their worker, among others: each is refused when it has killed often enough."""
        link = await self.kept_link()
        calls = self.calls(link, self.rng.randrange(1, 8), "storm")
        args = [f"{POISON}{self.rng.randrange(8)}", "die", 109]
        asked = [link.ask("execute", target="run", args=args, pool="storm") for _ in range(self.rng.randrange(1, 4))]
        for future in asked:
            error, value = await asyncio.wait_for(future, PATIENCE)
            code = "ok" if error is None else error["code"]
            self.world.history.counts[code] += 1
            if code == "ok" or (code == "poisoned" and error["executed"] != "never"):
                self.world.history.complain(15, f"a call that kills is answered {error or value}")
        await self.wait(calls)

    async def look(self) -> None:
        link = await self.kept_link()
        for method in self.rng.sample(("status", "pools", "workers", "clients", "queue", "logs"), 2):
            error, _ = await asyncio.wait_for(link.ask(method), PATIENCE)
            if error is not None and error["code"] != "closed":
                self.world.history.complain(1, f"{method}: {error}")


SCENES: tuple[tuple[Callable[[Client], Awaitable[None]], int], ...] = (
    (Client.pipeline, 60),
    (Client.wickedness, 6),
    (Client.cancelling, 6),
    (Client.half_close, 5),
    (Client.disconnect, 5),
    (Client.garbage, 4),
    (Client.drip, 2),
    (Client.same_id, 2),
    (Client.refused, 2),
    (Client.lease, 6),
    (Client.direct, 6),
    (Client.session, 14),
    (Client.look, 1),
    (Client.poison, 4),
)


class Saboteur:
    """Now and then all workers of the pool storm die, and as long as there is a file none can be started."""

    def __init__(self, daemon: int, file: Path, history: History, seed: int) -> None:
        self.daemon = daemon
        self.file = file
        self.history = history
        self.rng = Random(f"{seed} saboteur")

    async def run(self, is_over: Callable[[], bool]) -> None:
        begin = time.monotonic() + self.rng.uniform(1.0, 3.0)
        while not is_over():
            if time.monotonic() < begin:
                await asyncio.sleep(0.02)
                continue
            await self.cause_outage(self.rng.uniform(0.4, 0.8))
            begin = time.monotonic() + self.rng.uniform(2.0, 5.0)  # longer than the back-off that it leads to

    async def cause_outage(self, seconds: float) -> None:
        self.file.touch()
        begun = time.monotonic()
        self.kill_all()
        await asyncio.sleep(seconds)
        ended = time.monotonic()
        self.file.unlink()
        self.history.outages.append(Outage(begun, ended))

    def kill_all(self) -> None:
        for pid in procfs.child_pids(self.daemon):
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            if DOWN in procfs.environment(pid):
                try:
                    signal.pidfd_send_signal(fd, 9)
                except ProcessLookupError:
                    pass
            os.close(fd)


class Killer:
    """Kills and stops workers of the daemon."""

    def __init__(self, daemon: int, history: History, seed: int, period: float) -> None:
        self.daemon = daemon
        self.history = history
        self.rng = Random(f"{seed} killer")
        self.period = period  # seconds between two kills, in the mean
        self.later: set[asyncio.Task[None]] = set()

    async def run(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            await asyncio.sleep(self.rng.expovariate(1 / self.period))
            action = self.rng.random()
            victim = self.choose(self.rng.random() < 0.02, self.rng.random() < 0.1)
            if victim < 0:
                continue
            if action < 0.9:
                self.send(victim, 9, "kills")
                os.close(victim)
            else:
                self.send(victim, 19, "stops")
                task = asyncio.ensure_future(self.go_on(victim, self.rng.randrange(5, 400) / 1000))
                self.later.add(task)
                task.add_done_callback(self.later.discard)
        if self.later:
            await asyncio.wait(self.later)

    async def go_on(self, victim: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.send(victim, 18, "continues")
        os.close(victim)

    def send(self, victim: int, number: int, what: str) -> None:
        try:
            signal.pidfd_send_signal(victim, number)
            self.history.counts[what] += 1
        except ProcessLookupError:
            pass

    def choose(self, python: bool, newborn: bool) -> int:
        """A pidfd of one of the daemon's children, or -1. newborn: also of one that may still be starting."""
        with open(f"/proc/{self.daemon}/task/{self.daemon}/children", encoding="ascii") as f:
            pids = [int(pid) for pid in f.read().split()]
        self.rng.shuffle(pids)
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            if self.is_kind(pid, python, newborn):
                return fd
            os.close(fd)
        return -1

    def is_kind(self, pid: int, python: bool, newborn: bool) -> bool:
        """Whether it still is a child of the daemon, of that kind."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                command = f.read()
        except (FileNotFoundError, ProcessLookupError):
            return False
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS
        is_grown = newborn or age > (1.0 if python else 0.03)
        return int(fields[1]) == self.daemon and is_grown and (b"stub_worker" not in command) == python
