"""Fixtures of the tests of the Debian packages. Run by `make check-deb`, on the machine of tests/systemd/box."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import debs
from tests.support.daemon import APPS as SOURCES
from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.service import APPS, Service


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    if socket.gethostname() != "pypool-box":
        pytest.exit("these tests change the machine: run them by tests/systemd/box", returncode=1)
    # a container may have this to keep packages from starting services, and this machine is none
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    # man-db writes its index anew after each change: that takes longer than all else here
    Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)
    shutil.copytree(SOURCES, APPS)


@pytest.fixture
def service(machine: None) -> Iterator[Service]:
    """pypoold.service from the packages; in the end they are purged, and no file may be left."""
    before = debs.all_files()
    debs.install(debs.built())
    service = Service()
    yield service
    debs.purge()
    eventually(lambda: not service.pids(), "no process of the service", 10 * SLOW)
    assert sorted(debs.all_files() - before) == []
