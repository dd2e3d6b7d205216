"""Fixtures of the tests under a real systemd: the installed daemon and its units. Run by `make check-systemd`."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.support.daemon import APPS as SOURCES
from tests.support.daemon import BUILD, ROOT
from tests.systemd.machine import must
from tests.systemd.service import APPS, Service

SERVICES = pytest.StashKey["list[Service]"]()


@pytest.hookimpl(hookwrapper=True)  # type: ignore[misc]
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show the journal with a failed test."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    services = item.stash.get(SERVICES, None)
    if report.failed and services:
        report.sections.append(("journal", services[0].journal.end()))


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """`make install` on this machine, and what a package's script does after it."""
    if socket.gethostname() != "pypool-box":
        pytest.exit("these tests change the machine: run them by tests/systemd/box", returncode=1)
    must("make", "-C", str(ROOT), "-o", "all", "install", "DESTDIR=/", f"BUILD={BUILD}", "PREFIX=/usr/local")
    must("systemd-sysusers", "/usr/local/lib/sysusers.d/pypoold.conf")
    shutil.copytree(SOURCES, APPS)
    must("systemctl", "daemon-reload")


@pytest.fixture
def make_service(request: pytest.FixtureRequest, installed: None) -> Iterator[Callable[[str], Service]]:
    """Services by the name of their instance; "" is pypoold.service itself."""
    services: list[Service] = []
    request.node.stash[SERVICES] = services

    def make(instance: str) -> Service:
        services.append(Service(instance))
        return services[-1]

    yield make
    for service in services:
        service.remove()


@pytest.fixture
def service(make_service: Callable[[str], Service]) -> Service:
    return make_service("")
