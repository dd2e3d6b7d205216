"""A new program in the place of the old one, in the same main process of the unit."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.crashing import RATE, crash, pids, wait_idle
from tests.systemd.machine import must
from tests.systemd.service import Service, installed_pool

UPGRADES = int(os.environ.get("PYPOOL_UPGRADES", "5"))


def upgrade(service: Service) -> float:
    """ms that nobody was served."""
    told = json.loads(must("pypoolctl", "--json", "--socket", str(service.socket), "upgrade"))
    return float(told["paused_us"]) / 1000


def test_the_unit_does_not_notice(service: Service) -> None:
    """Its watchdog is fed, its sockets are open, and what is stored is as it was: also a crash is survived afterwards."""
    service.configure({"default": installed_pool("sessions", 2, start="exec"), "forks": installed_pool("warm", 1, start="fork")})
    service.drop_in("[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=1ms\nWatchdogSec=2\n")
    service.start()
    main, watched = service.main_pid(), threading.Event()
    with service.client() as c:
        before, stored = pids(c), service.property("NFileDescriptorStore")
        home = c.execute("here", session="s")[0]
        for _ in range(UPGRADES):
            upgrade(service)
        watched.wait(3.5)
        assert c.execute("here", session="s") == [home, 2]
        assert pids(c) == before
    assert (service.main_pid(), service.property("NRestarts"), service.property("ActiveState")) == (main, "0", "active")
    assert service.property("NFileDescriptorStore") == stored
    crash(service)
    with service.client() as c:
        wait_idle(c, 3)
        assert pids(c) == before
        assert c.execute("here", session="s") == [home, 3]
    upgrade(service)
    with service.client() as c:
        assert c.execute("here", session="s") == [home, 4], "workers that another daemon has started go on too"
        os.kill(home, 9)
        eventually(lambda: home not in pids(c), "its end is seen", 10 * SLOW)
    service.stop()
    assert service.pids() == []


@pytest.fixture
def program() -> Iterator[Path]:
    """The installed one, which is put back afterwards. The daemon executes what is in this place."""
    path = Path(must("readlink", "-f", "/usr/local/sbin/pypoold").strip())
    real = path.with_name("pypoold-real")
    must("cp", str(path), str(real))
    yield path
    real.rename(path)


def test_a_worker_of_a_daemon_before_that_dies_during_it_is_found_dead(service: Service, program: Path) -> None:
    """Its parent is systemd, which has reaped it before the new program looks."""
    service.configure({"default": installed_pool("sessions", 2, start="exec")})
    service.drop_in(RATE)
    service.start()
    crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        victim, other = sorted(pids(c))
        kill = f"kill -9 {victim}; while [ -e /proc/{victim} ]; do :; done"
        script = program.with_suffix(".new")
        script.write_text(f'#!/bin/sh\ncase "$*" in *--handover=*) ;; *) {kill} ;; esac\nexec {program}-real "$@"\n')
        script.chmod(0o755)
        script.rename(program)
        upgrade(service)
        eventually(lambda: victim not in pids(c) and other in pids(c), "its end is seen", 10 * SLOW)
        wait_idle(c, 2)


def test_an_installed_program_takes_over_from_the_one_that_runs(service: Service) -> None:
    """As a package does it: the file is replaced while the old one runs."""
    program = must("readlink", "-f", "/usr/local/sbin/pypoold").strip()
    service.configure({"default": installed_pool("nasty", 1)})
    service.start()
    with service.client() as c:
        worker = c.execute("pid")
        must("cp", program, f"{program}.new")
        must("mv", f"{program}.new", program)
        running = c.start_execute("sleep", 1.0)
        eventually(lambda: bool(c.call("status")["calls"]["running"]), "it runs")
        upgrade(service)
        assert os.readlink(f"/proc/{service.main_pid()}/exe") == program, "and not one that is deleted"
        assert c.wait(running).value() == 1.0 and c.execute("pid") == worker


def test_no_connection_is_refused_meanwhile(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.start()
    ended, trouble = threading.Event(), []

    def work() -> None:
        try:
            while not ended.is_set():
                with Client(service.socket, timeout=30 * SLOW) as c:
                    assert c.execute("echo", 1) == 1
        except Exception as e:
            trouble.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(UPGRADES):
        upgrade(service)
    ended.set()
    for thread in threads:
        thread.join()
    assert trouble == []
