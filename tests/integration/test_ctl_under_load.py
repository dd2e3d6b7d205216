"""Faults 100 and 114: whatever others do to the daemon, an operator gets an answer."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.client import Client, pack
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.measured import MEASURED
from tests.support.scenes import wait_running
from tests.support.users import ALICE, BOB, OPEN, client_of, needs_root
from tests.support.waiting import eventually

pytestmark = needs_root

Start = Callable[..., Daemon]

MANY = 100_000
PATIENCE = 2.0 * SLOW  # of a person at a terminal


def ctl(daemon: Daemon, *arguments: str) -> Any:
    """What pypoolctl answers, in time."""
    began = time.monotonic()
    done = daemon.ctl("--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < PATIENCE
    return json.loads(done.stdout)


def executes(c: Client, count: int, target: str, *args: Any) -> tuple[range, bytes]:
    """The ids and the bytes of that many calls."""
    first = c.new_id()
    c._next_id += count
    bodies = (pack([0, n, "execute", [{"target": target, "args": list(args)}]]) for n in range(first, first + count))
    return range(first, first + count), b"".join(map(c.frame, bodies))


def unlimited(start_daemon: Start, **settings: Any) -> Daemon:
    """One worker, and as much may wait as wants to."""
    return start_daemon(
        {"default": pool("nasty", 1, max_queue=0, queue_timeout="0", call_timeout="0", **settings)},
        log_level="info",
        uid_max_calls=0,
        uid_max_bytes="0",
        **OPEN,
    )


def cpu_seconds(daemon: Daemon) -> float:
    stat = Path(f"/proc/{daemon.pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def queued(c: Client) -> int:
    return int(c.call("status")["calls"]["queued"])


def stall_us(c: Client) -> int:
    return int(c.call("status")["worst_stall_us"])


def test_fault_100_100000_calls_wait_and_leave_one_by_one_without_being_looked_for(start_daemon: Start) -> None:
    daemon = unlimited(start_daemon)
    with daemon.client() as c, client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        lease = c.call("checkout", type="anonymous")["lease"]
        numbers, frames = executes(alice, MANY, "echo", 1)
        alice.send_bytes(frames)
        eventually(lambda: queued(c) == MANY, "all wait", 60.0 * SLOW)
        began = cpu_seconds(daemon)
        # from the middle, the end and the beginning: who walks through half of the others at each needs minutes
        order = [number for k in range(5) for number in numbers[(k * 2) % 5 :: 5]][: MANY // 2]
        for at in range(0, len(order), 1000):
            ids = {alice.new_id() for _ in order[at : at + 1000]}
            cancels = [[0, n, "cancel", [{"id": number}]] for n, number in zip(sorted(ids), order[at:])]
            alice.send_bytes(b"".join(alice.frame(pack(message)) for message in cancels))
            for n in sorted(ids):
                assert alice.wait(n).value() is True
        assert queued(c) == MANY - len(order)
        took = (cpu_seconds(daemon) - began) / len(order)
        number = bob.start_execute("echo", "mine")
        eventually(lambda: queued(c) == MANY - len(order) + 1, "Bob waits too")
        assert c.call("checkin", lease=lease) is True
        assert bob.wait(number).value() == "mine", "it is his turn before all of hers"
        assert took < 0.0002 * SLOW, "a walk through half of them takes longer"
        alice.close()
        eventually(lambda: queued(c) == 0, "the rest has left with her")
        assert bob.execute("echo", 1) == 1
        MEASURED.append(f"cancel one of {MANY} calls: {1e6 * took:.1f} us; worst stall: {stall_us(c) / 1000:.0f} ms")


def test_fault_114_ctl_answers_while_the_queue_is_full_and_all_connections_are_taken(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_queue=50)}, log_level="info", max_clients=30, **OPEN)
    with ExitStack() as stack:
        crowd = [stack.enter_context(client_of(daemon, ALICE)) for _ in range(30)]
        root = stack.enter_context(daemon.client())
        lease = root.call("checkout", type="anonymous")["lease"]  # nothing leaves the queue
        for c in crowd:
            for _ in range(5):
                c.start_execute("echo", 1)
        eventually(lambda: int(ctl(daemon, "status")["calls"]["queued"]) == 50, "the queue is full")
        for command in ("pools", "workers", "clients", "queue"):
            assert ctl(daemon, command)
        assert root.call("checkin", lease=lease) is True
        refused = sum(c.wait_any().error is not None for c in crowd for _ in range(5))
        assert refused == 30 * 5 - 50, "there was more than there is room for"


def test_fault_114_ctl_answers_while_the_daemon_drains(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, log_level="info", **OPEN)
    with daemon.client() as root, client_of(daemon, ALICE) as alice:
        number = alice.start_execute("sleep", 3.0 * SLOW)
        wait_running(root, "sleep", 1)
        daemon.signal(signal.SIGTERM)
        eventually(lambda: str(root.call("status")["state"]) == "draining", "it drains")
        assert ctl(daemon, "status")["state"] == "draining"
        assert [w["state"] for w in ctl(daemon, "workers")] == ["busy"]
        error = alice.fail_execute("echo", 1)
        assert (error.code, error.executed) == ("draining", "never")
        assert alice.wait(number).value() == 3.0 * SLOW
    assert daemon.wait() == 0
    daemon.check_log()


def test_fault_114_ctl_answers_beside_a_flood_of_pipelined_calls(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, log_level="warning", **OPEN)
    with ExitStack() as stack:
        crowd = [stack.enter_context(client_of(daemon, ALICE)) for _ in range(10)]
        for c in crowd:
            c.send_bytes(executes(c, 2000, "echo", 1)[1])
        answers = [ctl(daemon, "status") for _ in range(3)]
        assert all(answer["state"] == "running" for answer in answers)
        for c in crowd:
            assert all(c.wait_any() for _ in range(2000))
