"""The shortest way through everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.client import Client, Framing
from tests.support.daemon import DEMO, Daemon


@pytest.mark.parametrize("framing", ["prefixed", "bare"])
def test_a_call_returns_what_the_handler_returned(start_daemon: Callable[..., Daemon], framing: Framing) -> None:
    daemon = start_daemon({"default": DEMO})
    with daemon.client(framing=framing) as c:
        assert c.call("ping") == "pong"
        assert c.execute("echo", {"a": [1, 2.5, None, "é", b"\x00"]}) == {"a": [1, 2.5, None, "é", b"\x00"]}
        assert c.execute("echo", kw={"value": 7}) == 7


def test_pipelined_calls_are_all_answered_each_with_its_own_id(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    with daemon.client() as c:
        numbers = {c.start_execute("echo", i): i for i in range(50)}
        assert {c.wait(number).value() == i for number, i in numbers.items()} == {True}


def test_an_exception_in_a_handler_is_an_error_that_names_it(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    with daemon.client() as c:
        error = c.fail_execute("fail", "on purpose")
        assert (error.code, error.executed) == ("app_error", "yes")
        assert error.cause["type"] == "ValueError" and "on purpose" in error.message
        assert c.execute("echo", 1) == 1


def test_before_hello_an_error_is_one_string(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    with Client(daemon.socket, hello=False) as c:
        error = c.fail_execute("fail", "on purpose")
        assert isinstance(error.raw, str)
        assert error.raw.startswith("app_error: ") and error.raw.endswith("(executed: yes)")


def test_a_daemon_that_did_nothing_leaves_nothing(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    assert daemon.notify.values("STATUS")
    daemon.stop()
    assert daemon.notify.find("STOPPING", "1") is not None
