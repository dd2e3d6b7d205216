"""A caller is told lines of its own call only: a worker serves one user after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import CallError, Client
from tests.support.daemon import Daemon, pool
from tests.support.scenes import wait_running
from tests.support.users import ALICE, BOB, OPEN, client_of, needs_root

pytestmark = needs_root

Start = Callable[..., Daemon]

SECRET = "the-secret-of-alice"
USE = {"all": {"uid": ["*"], "role": "use"}}


def start(start_daemon: Start, **settings: Any) -> Daemon:
    base = {"poison_kills": 0, "breaker_failures": 0, **settings}
    return start_daemon({"default": pool("nasty", 1, **base)}, access=USE, **OPEN)


def fail_of(c: Client, *words: Any, **options: Any) -> CallError:
    error = c.fail_execute(*words, **options)
    assert SECRET not in repr(error.raw), error.raw
    return error


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_cause_has_no_line_of_the_call_before(start_daemon: Start, stream: str, end: str) -> None:
    daemon = start(start_daemon)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        pid = alice.execute("pid")
        assert alice.execute("write", stream, SECRET + end) is None
        error = fail_of(bob, "print_and_exit", "of bob")
        assert (error.code, error.fields["worker"]) == ("worker_died", 1) and bob.execute("pid") != pid
        assert error.cause["output"] == ["of bob"]


def test_a_cause_at_a_timeout_has_no_line_of_the_call_before(start_daemon: Start) -> None:
    daemon = start(start_daemon)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        assert alice.execute("write", "stderr", SECRET) is None
        assert fail_of(bob, "sleep", 30, timeout_ms=200).code == "deadline_exceeded"
        assert alice.execute("write", "stderr", SECRET) is None
        assert fail_of(bob, "swallow_interrupt", 30, timeout_ms=200).code == "deadline_exceeded"


def test_a_cause_has_nothing_of_a_call_that_was_cut_short(start_daemon: Start) -> None:
    daemon = start(start_daemon)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob, daemon.client() as root:
        number = alice.start_execute("write_and_sleep", "stderr", SECRET, 30, timeout_ms=1000)
        wait_running(root, "write_and_sleep", 1)
        waiting = bob.start_execute("print_and_exit", "of bob")
        assert alice.wait_error(number).code == "deadline_exceeded"
        error = bob.wait_error(waiting)
        assert SECRET not in repr(error.raw)
        assert error.cause["output"] == ["of bob"]


def test_an_open_breaker_tells_nothing_of_what_others_printed(start_daemon: Start) -> None:
    daemon = start(start_daemon, breaker_failures=2, breaker_reset="60s")
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        for _ in range(2):
            assert alice.fail_execute("print_and_exit", SECRET).code == "worker_died"
        assert fail_of(bob, "echo", 1).code == "circuit_open"


def test_whoever_waited_for_a_worker_is_not_told_what_it_printed(start_daemon: Start) -> None:
    daemon = start(start_daemon)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob, daemon.client() as root:
        number = alice.start_execute("write_and_sleep", "stderr", SECRET + "\n", 0.6)
        wait_running(root, "write_and_sleep", 1)
        assert fail_of(bob, "echo", 1, queue_timeout_ms=300).code == "queue_timeout"
        alice.wait(number).value()


def test_a_lease_that_was_lost_is_told_with_its_own_lines(start_daemon: Start) -> None:
    daemon = start(start_daemon)
    with client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob:
        assert alice.execute("write", "stderr", SECRET) is None
        lease = bob.call("checkout", type="anonymous")["lease"]
        error = fail_of(bob, "print_and_exit", "of bob", lease=lease)
        assert error.cause["output"] == ["of bob"]
        method, params = bob.wait_notification()
        assert method == "lease_lost" and SECRET not in repr(params)
