"""Bodies that there is no memory for cost one connection, or one worker, and not the daemon (docs/decisions/out-of-memory.md)."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import CallError, Client
from tests.support.daemon import SANITIZED, Daemon, pool
from tests.support.waiting import eventually

MIB = 1 << 20

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer has reserved all addresses")


def leave(daemon: Daemon, spare: int) -> None:
    """The daemon, not its workers, gets at most that many bytes more."""
    used = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))


def is_served(c: Client) -> bool:
    """A worker that was started before the limit of the daemon was lifted has it too, and may fail of it."""
    try:
        return bool(c.execute("echo", 1) == 1)
    except CallError as error:
        assert error.executed == "never", error
        return False


def test_fault_98_a_message_that_there_is_no_memory_for_is_told_overloaded(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    leave(daemon, 16 * MIB)
    with daemon.client() as big, daemon.client() as other:
        big.send_bytes((48 * MIB).to_bytes(4, "big") + b"\x94\x00\x05\xa7execute\x91")
        error = big.wait_error(None)
        assert (error.code, error.executed) == ("overloaded", "never") and "memory" in error.message
        big.wait_closed()
        assert other.execute("echo", 1) == 1


def test_fault_98_a_reply_that_there_is_no_memory_for_is_told_overloaded(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    leave(daemon, 16 * MIB)
    with daemon.client() as c:
        error = c.fail_execute("big", 48 * MIB)
        assert (error.code, error.executed) == ("overloaded", "maybe") and "memory" in error.message
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: is_served(c), "it serves")
        assert "no_memory" in [w["why"] for w in c.call("workers") if w["state"] == "dead"]


def test_fault_98_values_that_there_is_no_memory_for_change_nothing(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, session_max_bytes="64M")})
    with daemon.client() as c:
        c.call("session.put", session="s", values={"a": 1})
        leave(daemon, 48 * MIB)
        error = c.fail("session.put", session="s", values={"a": b"x" * (30 * MIB)})
        assert (error.code, error.executed) == ("overloaded", "never") and "memory" in error.message
        assert c.call("session.get", session="s") == {"a": 1}


def test_a_session_checkout_without_a_session_is_refused(start_daemon: Callable[..., Daemon]) -> None:
    with start_daemon({"default": pool("nasty", 1)}).client() as c:
        error = c.fail("checkout", type="session")
        assert error.code == "bad_request" and "needs session" in error.message
        c.send([1, 7, None, None])
        error = c.wait_error(7)
        assert error.code == "bad_request" and "asks nothing of its clients" in error.message
