"""Sessions and leases: beside a stateless call, and direct leases beside the bare worker."""

from __future__ import annotations

import os

from tests.bench.harness import BARE, PIN, PYTHON, Table, daemon, load, running


def bench_stateful(directory: str, rounds: int, count: int) -> None:
    argv, sock = daemon(directory, 1, True, more="  session_reserve = 0\n")
    os.sched_setaffinity(0, {int(PIN)})
    direct = Table("16-byte echo over a direct lease, all on one core: p50", 0, "µs")
    piped = Table("16-byte echo over a direct lease, 8 pipelined, unpinned", 2, "calls/s")
    state = Table("what state costs, one client, one worker, all on one core: p50", 0, "µs")
    with running(argv, sock):
        direct.rounds(
            {
                "F1 bare worker": lambda: load(["worker", PYTHON, BARE], 1, 1, 16, count, True),
                "direct lease": lambda: load(["direct", sock], 1, 1, 16, count, True),
            },
            rounds,
        )
        state.rounds(
            {
                "stateless call": lambda: load(["socket", sock], 1, 1, 16, count, True),
                "session call": lambda: load(["session", sock], 1, 1, 16, count, True),
                "checkout and checkin": lambda: load(["lease", sock], 1, 1, 16, count, True),
                "the same, direct": lambda: load(["lease-direct", sock], 1, 1, 16, count // 4, True),
            },
            rounds,
        )
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    argv, sock = daemon(directory, 1, False)
    with running(argv, sock):
        piped.rounds(
            {
                "F1 bare worker": lambda: load(["worker", PYTHON, BARE], 1, 8, 16, 4 * count, False),
                "direct lease": lambda: load(["direct", sock], 1, 8, 16, 4 * count, False),
            },
            rounds,
        )
    direct.show("F1 bare worker", "at most 1.05 x F1")
    piped.show("F1 bare worker", "at least 0.95 x F1")
    state.show("stateless call", "session at most 1.1, checkout and checkin 1.2, direct 3")
