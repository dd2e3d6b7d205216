"""An upgrade that is given up: the daemon goes on as before, and says why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.daemon import BUILD, SLOW, Daemon, pool
from tests.support.daemon_life import check_end
from tests.support.scenes import now

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Who opens it for writing waits for a reader."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def with_copy(start_daemon: StartDaemon, folder: Path, **settings: Any) -> tuple[Daemon, Path]:
    """A daemon whose program is the test's own."""
    shutil.copytree(BUILD / "python_worker", folder / "python_worker")
    shutil.copy(BUILD / "pypoold", folder / "pypoold")
    return start_daemon({"default": pool("nasty", 1, **settings)}, program=folder / "pypoold"), folder / "pypoold"


def put_script(program: Path, text: str) -> None:
    new = program.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{text}\n")
    new.chmod(0o755)
    new.rename(program)


def close_behind(c: Client, gate: Path) -> None:
    """A session is closed whose hook runs until somebody reads from the gate."""
    c.execute("write", "ledger", str(gate), session="s")
    c.call("session.close", session="s")


def test_what_cannot_be_handed_over_is_waited_for_and_no_longer_than_that(start_daemon: StartDaemon, gate: Path) -> None:
    daemon = start_daemon({"default": pool("sessions", 1)}, drain_timeout="300ms")
    with daemon.client() as c:
        close_behind(c, gate)
        began = now()
        error = c.fail("upgrade")
        assert now() - began >= 0.3
        assert (error.code, error.message) == ("overloaded", "sessions end, and their hooks run; nothing is changed")
        assert gate.read_text().startswith("s ")
        assert c.call("upgrade")["to"]


def test_a_daemon_that_is_told_to_end_gives_it_up(start_daemon: StartDaemon, gate: Path) -> None:
    daemon = start_daemon({"default": pool("sessions", 1)})
    with daemon.client() as c, daemon.client() as other:
        close_behind(c, gate)
        number = c.start("upgrade")
        assert c.call("ping") == "pong", "it has been read"
        assert other.call("shutdown") == {"now": False}
        error = c.wait_error(number)
        assert (error.code, error.message) == ("draining", "the daemon is shutting down; nothing is changed")
        assert gate.read_text().startswith("s ")
    check_end(daemon, 0)


def test_a_program_that_is_gone_when_its_turn_comes(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon, program = with_copy(start_daemon, tmp_path)
    real = program.with_name("real")
    program.rename(real)
    put_script(program, f'rm "$0"; exec {real} "$@"')
    with daemon.client() as c:
        worker = c.execute("pid")
        error = c.fail("upgrade")
        assert error.code == "init_failed"
        assert error.message == f"{program} cannot be executed: No such file or directory; nothing is changed"
        assert c.execute("pid") == worker
        real.rename(program)
        assert c.call("upgrade")["to"]
        assert c.execute("pid") == worker


def test_a_program_that_does_not_say_whether_it_can(start_daemon: StartDaemon, tmp_path: Path, gate: Path) -> None:
    daemon, program = with_copy(start_daemon, tmp_path)
    put_script(program, f"echo thinking\nread line <{gate}")
    with daemon.client() as c:
        worker = c.execute("pid")
        error = c.wait_error(c.start("upgrade"), 30 * SLOW)
        assert error.code == "init_failed"
        assert error.message == ("the new program did not say within 10 s whether it can take over; nothing is changed: "
                                 "thinking")
        assert c.execute("pid") == worker
