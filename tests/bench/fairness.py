"""Whether one uid that floods makes another wait longer than one that only keeps the pool busy."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator

from tests.bench.harness import LOAD, daemon, running
from tests.bench.scale import Caller
from tests.support.waiting import eventually

WORKERS = (1, 4)
HANDLER_MS = 4
FLOODER = 64001  # a number that nobody has
FLOOD = (100, 50)  # connections, calls in flight on each

Waits = list[tuple[float, float]]  # ms, of a call: as its caller sees it, in the queue


def bench_fairness(directory: str, rounds: int, count: int) -> None:
    if os.geteuid() != 0:
        print("\nfairness: only root can be several users; left out")
        return
    os.chmod(directory, 0o755)
    shutil.copy(LOAD, directory)  # where that user reaches it
    print(f"\na steady caller beside another user, calls of about {HANDLER_MS} ms (load of the machine {os.getloadavg()[0]:.1f})")
    print("  busy:  the other always has as many calls there as there are workers, so that there is a wait at all")
    print(f"  flood: the other always has {FLOOD[0] * FLOOD[1]} calls there, on {FLOOD[0]} connections")
    for workers in WORKERS:
        argv, sock = daemon(directory, workers, False, settings='socket_mode = "0666"\n')
        busy: Waits = []
        flooded: Waits = []
        with running(argv, sock):
            for _ in range(rounds):
                busy += waits_beside(directory, sock, (1, workers), count)
                flooded += waits_beside(directory, sock, FLOOD, count)
        show(workers, busy, flooded)
    print("  wanted: the p99 of both waits at most 2 x")


def waits_beside(directory: str, sock: str, calls: tuple[int, int], count: int) -> Waits:
    """Of so many calls, one at a time and one in about 10 ms, while another user has those calls there."""
    caller = Caller(sock)
    with other_user(directory, sock, *calls):
        eventually(lambda: present(caller) == calls[0] * calls[1], "its calls are there")
        found = [wait(caller) for _ in range(count)]
    return found


@contextlib.contextmanager
def other_user(directory: str, sock: str, connections: int, depth: int) -> Iterator[None]:
    """Calls without end: one that is answered is followed by the next."""
    argv = [f"{directory}/load", "socket", sock, "hold", str(connections), str(depth), "16", "1000000"]
    process = subprocess.Popen(argv, user=FLOODER, group=FLOODER, extra_groups=[], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def present(caller: Caller) -> int:
    calls = caller.call("status")["calls"]
    return int(calls["queued"] + calls["running"])


def wait(caller: Caller) -> tuple[float, float]:
    time.sleep(random.uniform(0.5, 1.5) * 0.01)
    begun = time.perf_counter()
    meta = caller.call("execute", target="hold", args=[b""], meta=True)["meta"]
    return (time.perf_counter() - begun) * 1e3 - meta["run_us"] / 1e3, meta["queue_us"] / 1e3


def show(workers: int, busy: Waits, flooded: Waits) -> None:
    for column, name in enumerate(("answer less handler", "wait in the queue")):
        for part in (50, 99):
            one, other = (percentile([w[column] for w in waits], part) for waits in (busy, flooded))
            told = f"{workers} worker{'s' if workers > 1 else ' '}  {name:20} p{part}"
            print(f"  {told}   busy {one:6.2f} ms   flood {other:6.2f} ms   {other / one:6.2f} x")


def percentile(values: list[float], of_100: int) -> float:
    return sorted(values)[len(values) * of_100 // 100]
