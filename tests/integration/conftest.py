"""Fixtures of the integration tests: `start_daemon(...)` makes daemons that are checked and stopped at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from tests.support.client import Client
from tests.support.daemon import BUILD, DEMO, Daemon
from tests.support.measured import hand_over, show, take_over

DAEMONS = pytest.StashKey["list[Daemon]"]()
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)  # type: ignore[misc]
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show the daemons' logs with a failed test."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed:
        item.stash[FAILED] = True
        daemons: list[Daemon] = item.stash[DAEMONS] if DAEMONS in item.stash else []
        for number, daemon in enumerate(daemons):
            report.sections.append((f"log of daemon {number}", daemon.log_end(200)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    hand_over(session.config)


@pytest.hookimpl(optionalhook=True)  # type: ignore[misc]
def pytest_testnodedown(node: Any) -> None:
    take_over(node)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    show(terminalreporter)


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """There is something to test."""
    if not (BUILD / "pypoold").exists():
        pytest.exit(f"{BUILD / 'pypoold'} does not exist: run make first", returncode=1)


@pytest.fixture
def start_daemon(request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """A function that starts a daemon (arguments: those of Daemon). Each that the test did not stop is stopped, with all
    checks, after it."""
    daemons: list[Daemon] = []
    request.node.stash[DAEMONS] = daemons

    def start(*args: Any, **kwargs: Any) -> Daemon:
        daemon = Daemon(*args, **kwargs)
        daemons.append(daemon)
        return daemon

    yield start
    if request.node.stash.get(FAILED, False):
        for daemon in daemons:
            if not daemon.stopped:
                daemon.discard()
        return
    errors: list[BaseException] = []
    for daemon in daemons:
        try:
            if daemon.process.poll() is None:
                daemon.stop()
            elif not daemon.stopped:
                daemon.check_log()
                daemon.discard()
        except BaseException as e:  # the other daemons must be stopped too
            errors.append(e)
    if errors:
        raise errors[0]


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with one pool, `default`, of two workers of the demo application."""
    return start_daemon({"default": DEMO})


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """A connection to `daemon`, after hello."""
    with daemon.client() as c:
        yield c


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name that outlives its daemon. Ask for it before start_daemon."""
    path = Path(tempfile.mkdtemp(prefix="pypool-"))
    yield path
    shutil.rmtree(path)
