"""Fault 99: what one user has together is limited, and whatever way a thing ends, it is given back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.support.client import CallError, Client
from tests.support.daemon import Daemon, pool
from tests.support.scenes import wait_queued, wait_workers
from tests.support.users import ALICE, BOB, OPEN, client_of, needs_root
from tests.support.waiting import eventually

pytestmark = needs_root

Start = Callable[..., Daemon]

POOLS = {"default": pool("nasty", 1), "other": pool("nasty", 1)}


def is_refused(error: CallError, limit: str) -> bool:
    return (error.code, error.executed) == ("quota", "never") and f"{limit} is " in error.message


def opens(c: Client, name: str, **params: object) -> bool:
    try:
        return bool(c.call("session.open", session=name, **params)["opened"])
    except CallError as error:
        assert is_refused(error, "uid_max_sessions"), error
        return False


def test_fault_99_sessions_of_a_uid_are_limited_over_all_pools_and_connections(start_daemon: Start) -> None:
    daemon = start_daemon(POOLS, uid_max_sessions=3, **OPEN)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        with client_of(daemon, ALICE) as gone:
            assert opens(gone, "a") and opens(gone, "b", pool="other")
        assert opens(alice, "c") and not opens(alice, "d") and not opens(alice, "d", pool="other")
        assert is_refused(alice.fail_execute("echo", 1, session="d"), "uid_max_sessions"), "no call opens one either"
        assert alice.execute("echo", 1, session="c") == 1, "those that are there are used"
        assert alice.execute("echo", 1) == 1
        assert opens(bob, "d"), "another user has a limit of its own"
        assert alice.call("session.close", session="b", pool="other") is True
        assert opens(alice, "d", ttl_ms=1000), "one has been given back"
        assert not opens(alice, "e")
        eventually(lambda: opens(alice, "e"), "and one when its time is over")


def test_fault_99_calls_and_leases_are_given_back_whatever_way_they_end(start_daemon: Start) -> None:
    limits = {"uid_max_calls": 4, "uid_max_leases": 2, "uid_max_bytes": "64K"}
    settings = {"poison_kills": 0, "breaker_failures": 0}
    daemon = start_daemon({"default": pool("nasty", 2, **settings)}, **limits, **OPEN)

    def use_all(stack: ExitStack) -> None:
        """As much as is allowed, and one of each is refused."""
        a, b = (stack.enter_context(client_of(daemon, ALICE)) for _ in range(2))
        for c in (a, b):
            c.call("checkout", type="anonymous")
        assert is_refused(a.fail("checkout", type="anonymous"), "uid_max_leases")
        for _ in range(4):
            a.start_execute("echo", "x" * 15_000)
        wait_queued(root, 4)
        assert is_refused(b.fail_execute("echo", 1), "uid_max_calls")

    def fail_in_all_ways(c: Client) -> None:
        assert c.fail_execute("crash").code == "worker_died"
        assert c.fail_execute("sleep", 30, timeout_ms=50).code == "deadline_exceeded"
        assert c.fail_execute("unserializable").code == "unserializable"
        number = c.start_execute("sleep", 30)
        assert c.call("cancel", id=number) is True and c.wait_error(number).code == "cancelled"
        lease = c.call("checkout", type="anonymous")["lease"]
        assert c.fail_execute("crash", lease=lease).code == "worker_died"
        assert c.call("checkout", type="anonymous", ttl_ms=1)
        c.start_execute("sleep", 30)

    with daemon.client() as root:
        for _ in range(2):
            with ExitStack() as stack:
                use_all(stack)
            wait_queued(root, 0)
            for _ in range(3):
                with client_of(daemon, ALICE) as c:
                    fail_in_all_ways(c)
            eventually(lambda: int(root.call("status")["calls"]["running"]) == 0, "nothing runs")
            wait_workers(root, "idle", 2)
