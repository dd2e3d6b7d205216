"""Fault 29: what one user queues, on however many connections, does not let another wait long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.client import Client
from tests.support.daemon import Daemon, pool
from tests.support.scenes import wait_queued
from tests.support.users import ALICE, BOB, OPEN, client_of, needs_root
from tests.support.waiting import eventually

pytestmark = needs_root

Start = Callable[..., Daemon]


def start(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 1, max_queue=0, queue_timeout="60s")}, log_level="info", **OPEN)


def ledger_of(tmp_path: Path) -> Path:
    ledger = tmp_path / "ledger"
    ledger.touch()
    return ledger


def names(ledger: Path) -> list[str]:
    """Whose calls were started, in that order."""
    return ledger.read_text().split()


def queued(c: Client) -> int:
    return int(c.call("status")["calls"]["queued"])


def longest_run_between(order: list[str], name: str) -> int:
    """The most calls of others between two of `name`."""
    places = [n for n, other in enumerate(order) if other == name]
    return max(b - a - 1 for a, b in zip(places, places[1:]))


def waiting_together(daemon: Daemon, ledger: Path, connections: int, each: int) -> int:
    """So many connections of Alice queue `each` calls, and Bob 20 on one: how many of hers come between two of his."""
    ledger.write_text("")
    with ExitStack() as stack, daemon.client() as c:
        lease = c.call("checkout", type="anonymous")["lease"]
        flood = [stack.enter_context(client_of(daemon, ALICE)) for _ in range(connections)]
        sent = [(a, a.start_execute("append_line", str(ledger), "alice")) for _ in range(each) for a in flood]
        wait_queued(c, len(sent))
        bob = stack.enter_context(client_of(daemon, BOB))
        numbers = [bob.start_execute("append_line", str(ledger), "bob") for _ in range(20)]
        wait_queued(c, len(sent) + 20)
        assert c.call("checkin", lease=lease) is True
        for number in numbers:
            bob.wait(number).value()
        for a, number in sent:
            a.wait(number).value()
    assert names(ledger).count("alice") == len(sent)
    return longest_run_between(names(ledger), "bob")


def test_fault_29_a_flood_on_many_connections_gets_no_more_turns_than_one_polite_user(
    start_daemon: Start, tmp_path: Path
) -> None:
    daemon, ledger = start(start_daemon), ledger_of(tmp_path)
    polite = waiting_together(daemon, ledger, connections=1, each=20)
    flood = waiting_together(daemon, ledger, connections=30, each=40)
    assert (polite, flood) == (1, 1)


def waits(root: Client, bob: Client, ledger: Path, calls: int) -> list[int]:
    """Bob calls again and again: how many calls of others were started between the moment in which each of his waits and its own
    start. The pool stands still until it waits, however slow Bob is to send."""
    found = []
    for _ in range(calls):
        root.call("pool.pause")
        eventually(lambda: bool(root.call("status")["calls"]["running"] == 0), "nothing runs")
        before, others = len(names(ledger)), queued(root)
        number = bob.start_execute("append_line", str(ledger), "bob", 0.002)
        wait_queued(root, others + 1)
        root.call("pool.resume")
        bob.wait(number).value()
        found.append(names(ledger).index("bob", before) - before)
    return sorted(found)


def waits_beside(daemon: Daemon, ledger: Path, connections: int, each: int) -> list[int]:
    """waits(), while so many connections of Alice have always calls queued."""
    with ExitStack() as stack, daemon.client() as c, client_of(daemon, BOB) as bob:
        for _ in range(connections):
            alice = stack.enter_context(client_of(daemon, ALICE))
            for _ in range(each):
                alice.start_execute("append_line", str(ledger), "alice", 0.002)
        eventually(lambda: queued(c) > connections, "they wait")
        found = waits(c, bob, ledger, 50)
        assert queued(c) > 0, "she was there all the time"
    return found


def test_fault_29_a_flood_does_not_lengthen_another_users_wait(start_daemon: Start, tmp_path: Path) -> None:
    daemon, ledger = start(start_daemon), ledger_of(tmp_path)
    polite = waits_beside(daemon, ledger, connections=1, each=300)
    flooded = waits_beside(daemon, ledger, connections=40, each=50)
    assert polite[-1] == flooded[-1] == 0, "she had a turn since his last: the next is his"
