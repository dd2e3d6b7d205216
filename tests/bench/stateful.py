"""Sessions and leases: beside a stateless call, and direct leases beside the bare worker."""

from __future__ import annotations

import os

from tests.bench.harness import BARE, PIN, PYTHON, Table, daemon, load, running


DAEMONS = 4  # one after the other: how a process happens to lie in memory is good for some percent


def bench_stateful(directory: str, rounds: int, count: int) -> None:
    direct = Table("16-byte echo over a direct lease, all on one core: p50", 0, "µs")
    piped = Table("16-byte echo over a direct lease, 8 pipelined, unpinned", 2, "calls/s")
    state = Table("what state costs, one client, one worker, all on one core: p50", 0, "µs")
    for _ in range(DAEMONS):
        argv, sock = daemon(directory, 1, True, more="  session_reserve = 0\n")
        os.sched_setaffinity(0, {int(PIN)})
        with running(argv, sock):
            compare_direct(direct, sock, rounds, 1, count, True)
            compare_state(state, sock, rounds, count)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        argv, sock = daemon(directory, 1, False)
        with running(argv, sock):
            compare_direct(piped, sock, 3 * rounds, 8, 2 * count, False)
    direct.show("F1 bare worker", "at most 1.05 x F1")
    piped.show("F1 bare worker", "at least 0.95 x F1")
    state.show("stateless call", "session at most 1.1, checkout and checkin 1.2, direct 3")


def compare_direct(table: Table, sock: str, rounds: int, depth: int, count: int, pin: bool) -> None:
    table.rounds(
        {
            "F1 bare worker": lambda: load(["worker", PYTHON, BARE], 1, depth, 16, count, pin),
            "direct lease": lambda: load(["direct", sock], 1, depth, 16, count, pin),
        },
        rounds,
    )


def compare_state(table: Table, sock: str, rounds: int, count: int) -> None:
    table.rounds(
        {
            "stateless call": lambda: load(["socket", sock], 1, 1, 16, count, True),
            "session call": lambda: load(["session", sock], 1, 1, 16, count, True),
            "checkout and checkin": lambda: load(["lease", sock], 1, 1, 16, count, True),
            "the same, direct": lambda: load(["lease-direct", sock], 1, 1, 16, count // 4, True),
        },
        rounds,
    )
