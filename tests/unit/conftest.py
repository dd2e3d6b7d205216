"""Puts the root (for tests.support) and the worker's package within reach of the Python unit tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT, os.path.join(ROOT, "python_worker")]

from tests.support.fake_daemon import FakeDaemon, Script  # noqa: E402 (not before the path is set)
from tests.support.measured import show  # noqa: E402
from tests.support.python_client import Serve  # noqa: E402


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    show(terminalreporter)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that starts a fake daemon with these scripts and returns the path of its socket."""
    daemons: list[FakeDaemon] = []

    def start(*scripts: Script) -> Path:
        daemons.append(FakeDaemon(tmp_path / "s", *scripts))
        return daemons[-1].path

    yield start
    for daemon in daemons:
        daemon.close()
