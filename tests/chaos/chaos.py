"""The chaos run: many clients against a real daemon whose workers are scripted stubs and real Python, all of it attacked.

usage: chaos.py [--calls N] [--kills N] [--clients N] [--seconds N] [--seed N] [--keep]

--seconds: instead of one run, runs of N calls with one seed after the other until that time is over.
Prints the seed; the same seed gives the same plan of events.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos import checker
from tests.chaos.history import Event, History, read_events
from tests.chaos.link import connect
from tests.chaos.reloader import Reloader
from tests.chaos.scenes import DOWN, Client, Killer, Saboteur, World
from tests.support import procfs
from tests.support.daemon import BUILD, SANITIZED, SLOW, Daemon, pool
from tests.support.waiting import until_fine

HERE = Path(__file__).resolve().parent
STUB = BUILD / "tests" / "stub_worker"
POOLS = {"stub": 6, "flaky": 2, "python": 2, "storm": 3, "prefer": 3, "moving": 2}
POISON_KILLS = 2  # of the pool storm
MAX_REQUESTS = 10
RECYCLING_CALLS = 60  # of each caller, to see them replaced
SURGE = 1  # workers of it that are doubled for their replacement
UID_MAX_CALLS = 4000
UID_MAX_SESSIONS = 200
TEMPLATES = 3  # of the pool that forks: its own, the next one, and one that is leaving
STALL_MS = 250.0  # of the daemon's loop, on a machine that is busy with everything else here
RSS_GROWTH_KIB = 12 * 1024
TROUBLE_SHOWN = 40
REST = 60.0  # until all is quiet: a pool whose workers died again and again waits for up to 40 s


def pools(log: Path) -> dict[str, Any]:
    """The pools of the run, with times that are short enough to meet each of them often."""
    limits: dict[str, Any] = {
        "call_timeout": "5s", "queue_timeout": "4s", "init_timeout": "10s", "cancel_grace": "100ms",
        "stop_timeout": "3s", "max_queue": 3000, "breaker_failures": 0, "poison_kills": 0,
        "drain_timeout": "500ms",
    }
    stub = {"python": str(STUB), "environment": [f"STUB_LOG={log}"]}
    flaky = {"python": str(STUB), "environment": [f"STUB_LOG={log}", "STUB_FLAKY=7"]}
    python = {"path": [str(HERE)], "environment": [f"CHAOS_LOG={log}"]}
    return {
        "stub": {**pool("stub", POOLS["stub"]), **limits, **stub},
        "flaky": {**pool("stub", POOLS["flaky"]), **limits, **flaky},
        "python": {**pool("chaos_app", POOLS["python"], start="fork"), **limits, **python},
        "prefer": {**pool("stub", POOLS["prefer"]), **limits, **stub, "affinity": "prefer"},
        "moving": {**pool("chaos_app", POOLS["moving"]), **limits, **python, "affinity": "prefer"},
        "storm": {**pool("stub", POOLS["storm"]), **limits, **stub, "poison_kills": POISON_KILLS, "breaker_failures": 2,
                  "breaker_reset": "10ms", "max_requests": MAX_REQUESTS,
                  "environment": [*stub["environment"], f"{DOWN.decode()}{log.parent / 'down'}", "STUB_SLOW=30"]},
    }


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class Run:
    """One daemon, one seed, one verdict."""

    def __init__(self, options: argparse.Namespace, seed: int, until: float) -> None:
        self.options = options
        self.seed = seed
        self.until = until  # a soak ends then, whatever has been done
        self.history = History()
        self.directory = Path(tempfile.mkdtemp(prefix="pypool-chaos-"))
        self.log = self.directory / "events"
        self.daemon = Daemon(pools(self.log), log_level="info", uid_max_calls=UID_MAX_CALLS,
                             uid_max_sessions=UID_MAX_SESSIONS, directory=self.directory)
        self.reloader = Reloader(str(self.daemon.socket), seed)
        self.early_rss = 0
        self.most_children = self.most_storm = 0

    # ---- attack

    def is_over(self) -> bool:
        calls, kills = len(self.history.calls), self.history.counts["kills"]
        if self.daemon.process.poll() is not None:
            return True
        if not self.early_rss and calls > self.options.calls / 5:
            self.early_rss = resident_kib(self.daemon.pid)
        return (calls >= self.options.calls and kills >= self.options.kills) or time.monotonic() > self.until

    async def watch_children(self) -> None:
        """13: never more processes than workers may be, in all and in the pool storm."""
        while not self.is_over():
            self.count_workers()
            await asyncio.sleep(0.02)

    async def attack(self) -> None:
        world = World(str(self.daemon.socket), self.history)
        killer = Killer(self.daemon.pid, self.history, self.seed, self.options.period / 1000)
        clients = [Client(world, number, self.seed) for number in range(self.options.clients)]
        saboteur = Saboteur(self.daemon.pid, self.directory / "down", self.history, self.seed)
        await asyncio.gather(
            killer.run(self.is_over), saboteur.run(self.is_over), self.reloader.run(self.is_over), self.watch_children(), *(client.run(self.is_over) for client in clients)
        )

    # ---- verdict

    def unrest(self, status: dict[str, Any]) -> str:
        """What is not yet at rest, or ""."""
        calls = status["calls"]
        idle = {p["name"]: p["idle"] for p in status["pools"]}
        living = {p["name"]: p["workers"] for p in status["pools"]}  # one that is replaced may still be leaving
        if calls["queued"] or calls["running"] or idle != POOLS or living != POOLS:
            return f"calls {calls}, idle workers {idle} of {living}, last failures {[p['last_failure'] for p in status['pools']]}"
        return ""

    def strange_fds(self) -> str:
        extra = procfs.fd_kinds(self.daemon.pid)
        extra.subtract(self.daemon.baseline_fds)
        left = {kind: n for kind, n in extra.items() if n}
        return f"open fds, more or fewer than at the start: {left}" if left else ""

    async def probe_quota(self) -> Iterator[str]:
        """9: of so many calls at once the last is one too many: none is left in the count of this user."""
        link = await connect(str(self.daemon.socket), History(), "quota", "prefixed")
        args = ["quota", "sleep", 60000]
        frames = [
            link.frame([0, 10 + i, "execute", [{"target": "run", "args": args, "pool": "stub" if i % 2 else "flaky"}]])
            for i in range(UID_MAX_CALLS + 1)
        ]
        last = asyncio.get_running_loop().create_future()
        link.waiting[10 + UID_MAX_CALLS] = [last]
        early: list[Any] = []
        for i in range(UID_MAX_CALLS):
            link.waiting[10 + i] = [asyncio.get_running_loop().create_future()]
            future = link.waiting[10 + i][0]
            assert isinstance(future, asyncio.Future)
            future.add_done_callback(lambda f: early.append(f.result()) if not last.done() else None)
        link.write(b"".join(frames))
        error, _ = await asyncio.wait_for(last, 20 * SLOW)
        found = [f"invariant 9: {error_of}" for error_of, _ in early if error_of["code"] == "quota"][:3]
        if error is None or error["code"] != "quota":
            found.append(f"invariant 9: call {UID_MAX_CALLS + 1} of one user: {error}")
        link.close()
        await link.ended
        return iter(found)

    async def probe_session_quota(self) -> list[str]:
        """9: of so many sessions at once the last is one too many, so none is left in the count of this user."""
        link = await connect(str(self.daemon.socket), History(), "sessions", "prefixed")
        names = [f"quota-{i}" for i in range(UID_MAX_SESSIONS + 1)]
        opened = await asyncio.gather(*(link.ask("session.open", session=name, pool="stub") for name in names))
        await asyncio.gather(*(link.ask("session.close", session=name, pool="stub") for name in names))
        refused = [i for i, (error, _) in enumerate(opened) if error is not None]
        found = []
        if refused != [UID_MAX_SESSIONS] or opened[-1][0]["code"] != "quota":
            found.append(f"invariant 9: of {len(names)} sessions of one user these are refused: {refused}, {opened[-1]}")
        for method in ("session.list", "sessions", "leases"):
            _, left = await asyncio.wait_for(link.ask(method), 20 * SLOW)
            if left:
                found.append(f"invariant 9: {method} has {len(left)} at the end: {left[:3]}")
        link.close()
        await link.ended
        return found

    def count_workers(self) -> None:
        # one that died before the last of this list was made shows no environment afterwards
        environments = [procfs.environment(pid) for pid in procfs.child_pids(self.daemon.pid)]
        self.most_children = max(self.most_children, sum(map(bool, environments)))
        self.most_storm = max(self.most_storm, sum(DOWN in e for e in environments))

    async def probe_recycling(self) -> list[str]:
        """As many calls at a time as storm has workers, with nobody in their way: all are used up at about the same time."""
        link = await connect(str(self.daemon.socket), History(), "recycling", "prefixed")
        workers: list[int] = []
        found: list[str] = []
        calls = int(RECYCLING_CALLS * SLOW)

        async def call_again_and_again() -> None:
            for _ in range(calls):
                args = ["recycling", "sleep", 10]
                asked = link.ask("execute", target="run", args=args, pool="storm", meta=True)
                error, answer = await asyncio.wait_for(asked, 20 * SLOW)
                if error is None:
                    workers.append(answer["meta"]["worker"])
                else:
                    found.append(f"recycling: a call is lost to it: {error}")

        callers = [asyncio.ensure_future(call_again_and_again()) for _ in range(POOLS["storm"])]
        while (await asyncio.wait(callers, timeout=0.001))[1]:
            self.count_workers()
        await asyncio.gather(*callers)
        link.close()
        await link.ended
        self.used = len(set(workers))
        found += checker.check_recycling(workers, MAX_REQUESTS + MAX_REQUESTS // 10, calls // 2)
        if self.most_storm > POOLS["storm"] + SURGE:
            found.append(f"invariant 13: {self.most_storm} workers of storm at once while they are replaced")
        return found[:TROUBLE_SHOWN]

    def judge(self) -> Iterator[str]:
        """All that is wrong."""
        events = read_events(self.log)
        self.events = len(events)
        yield from self.history.trouble
        yield from checker.check_calls(self.history, events)
        yield from checker.check_workers(events)
        yield from checker.check_leases(self.history, events)
        yield from checker.check_stories(self.history, events)
        yield from checker.check_poison(events, max(POISON_KILLS, POOLS["storm"]))
        yield from checker.check_times(self.history, SLOW)
        with self.daemon.client() as c:
            self.pools = c.call("pools")
            status = c.call("status")
        counters = {**status["calls"], "leases": sum(p["leases"] for p in self.pools)}
        yield from checker.check_counters(self.history, counters)
        for p in self.pools:
            yield from checker.check_spawns(p, POOLS[p["name"]])
        yield from self.judge_storm(events)
        yield from self.reloader.judge(SLOW)
        yield from self.judge_process(status)

    def judge_storm(self, events: list[Event]) -> Iterator[str]:
        """13, 15: the pool with breaker and recycling."""
        most = POOLS["storm"] + SURGE
        if self.most_storm > most:
            yield f"invariant 13: {self.most_storm} workers of storm at once, {most} are the most"
        opened = next(p for p in self.pools if p["name"] == "storm")["breaker"]["opened"]
        yield from checker.check_outages(self.history.outages, events, most, opened)

    def judge_process(self, status: dict[str, Any]) -> Iterator[str]:
        """10, 11, 12, 13, 17, 20: what the kernel says."""
        most = sum(POOLS.values()) + 2 * SURGE + TEMPLATES  # of storm, and of the pool that is being reloaded
        if self.most_children > most:
            yield f"invariant 13: {self.most_children} living children, and the pools have {most} workers"
        try:
            until_fine(self.strange_fds, 5.0 * SLOW)  # the end of the last connection is news to the daemon
        except AssertionError as e:
            yield f"invariant 10: {e}"
        for p in procfs.processes():
            if p.parent == self.daemon.pid and p.state == "Z":
                yield f"invariant 12: a zombie: {p}"
            elif p.parent == self.daemon.pid and "stub_worker" in p.command and set(procfs.fds(p.pid)) != set(range(8)):
                yield f"invariant 11: fds of {p}: {procfs.fds(p.pid)}"
        if status["pid"] != self.daemon.pid:
            yield f"invariant 20: the daemon's pid was {self.daemon.pid} and is {status['pid']}"
        self.stall_ms = status["worst_stall_us"] / 1000
        self.growth = resident_kib(self.daemon.pid) - self.early_rss
        if self.stall_ms > STALL_MS * SLOW:
            yield f"invariant 17: the loop stood still for {self.stall_ms:.1f} ms"
        if self.early_rss and self.growth > RSS_GROWTH_KIB and not SANITIZED:
            yield f"invariant 17: the daemon grew by {self.growth} KiB"

    def execute(self) -> list[str]:
        """The whole run; what is wrong."""
        began = time.monotonic()
        try:
            until_fine(lambda: self.unrest(self.daemon.status()), REST * SLOW)
            self.daemon.take_baseline()  # READY does not wait for workers of flaky that die at their start
            asyncio.run(self.attack())
            if self.daemon.process.poll() is not None:
                return [f"invariant 20: the daemon ended: {self.daemon.process.returncode}", self.daemon.log_end()]
            self.attack_seconds = time.monotonic() - began
            until_fine(lambda: self.unrest(self.daemon.status()), REST * SLOW)
            found = list(self.judge())
            found += asyncio.run(self.probe_recycling())
            found += asyncio.run(self.probe_quota())
            found += asyncio.run(self.probe_session_quota())
            until_fine(lambda: self.unrest(self.daemon.status()), REST * SLOW)
            self.report()
            self.daemon.stop()
        except AssertionError as e:
            found = [*self.history.trouble, str(e)]
        finally:
            if not self.daemon.stopped:
                self.daemon.discard()
        return found

    def report(self) -> None:
        counts, calls = self.history.counts, len(self.history.calls)
        died = sum(p["died"] for p in self.pools)
        direct = sum(call.direct for call in self.history.calls)
        print(f"  {calls} calls in {self.attack_seconds:.1f} s, {direct} of them direct, {len(self.history.leases)} leases, "
              f"{self.events} events of workers")
        sessions, lost, seen = checker.count_stories(self.history.stories)
        print(f"  {len(self.history.stories)} sessions: {sessions} calls, {lost} of them told of its loss, {seen} looks at values")
        print(f"  {counts['kills']} SIGKILLs, {counts['stops']} SIGSTOPs; {died} workers died")
        storm = next(p for p in self.pools if p["name"] == "storm")
        print(f"  {self.reloader.told()}")
        print(f"  storm: {storm['spawned']} workers, {counts['poisoned']} poisoned, {storm['breaker']['opened']} times open, "
              f"{len(self.history.outages)} outages, {self.most_storm} workers at once, "
              f"{self.used} used up in peace")
        print(f"  ends: {self.history.summary()}")
        print(f"  deadlines met {checker.worst_times(self.history.calls)}; worst stall {self.stall_ms:.1f} ms; "
              f"RSS {self.early_rss} KiB {self.growth:+d}", flush=True)


def soak(options: argparse.Namespace) -> Iterator[Run]:
    """The runs that are asked for."""
    end = time.monotonic() + options.seconds if options.seconds else float("inf")
    seed = options.seed
    while True:
        yield Run(options, seed, end)
        seed += 1
        if time.monotonic() > end or not options.seconds:
            return


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--period", type=float, default=15.0, help="ms between two kills, in the mean")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="keep the directory with log and events")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if not STUB.exists():
        sys.exit(f"{STUB} does not exist: make tests")
    for run in soak(options):
        print(f"seed {run.seed} ({os.path.relpath(BUILD)}, {run.directory})", flush=True)
        began = time.monotonic()
        found = run.execute()
        for line in found[:TROUBLE_SHOWN]:
            print(f"  {line}")
        if options.keep or found:
            print(f"  kept: {run.directory}")
        else:
            shutil.rmtree(run.directory, ignore_errors=True)
        print(f"chaos: seed {run.seed}: {len(run.history.calls)} calls, {run.history.counts['kills']} SIGKILLs, "
              f"{len(found)} complaints, {time.monotonic() - began:.1f} s", flush=True)
        if found:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
