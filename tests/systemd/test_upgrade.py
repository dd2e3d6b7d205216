"""A new program in the place of the old one, in the same main process of the unit."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.crashing import RATE, crash, files_of, pids, wait_idle, wait_stored
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


def put_first(program: Path, script: str) -> None:
    """What a shell does before the program is executed; a trial is none of its business."""
    new = program.with_suffix(".new")
    new.write_text(f'#!/bin/sh\ncase "$*" in *--handover=*) ;; *) {script} ;; esac\nexec {program}-real "$@"\n')
    new.chmod(0o755)
    new.rename(program)


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
        put_first(program, kill)
        upgrade(service)
        eventually(lambda: victim not in pids(c) and other in pids(c), "its end is seen", 10 * SLOW)
        wait_idle(c, 2)


def test_of_a_void_ledger_no_files_of_workers_are_left(service: Service) -> None:
    """The new program keeps nothing, and so cannot take out of the store what is of no use any more when they die."""
    service.configure({"default": installed_pool("sessions", 2, start="exec")})
    service.drop_in(RATE + "LimitFSIZE=256K\n")
    service.start()
    with service.client() as c:
        wait_idle(c, 2)
        for name in ("a", "b", "c", "d"):
            c.call("session.put", session=name, values={"first": b"x" * 100_000})
        assert service.journal.records("PYPOOL_EVENT=ledger.void")
        for name in ("a", "b", "c", "d"):
            c.call("session.close", session=name)  # they are handed over in such a file too
        wait_stored(service, files_of(2))
        before = pids(c)
        upgrade(service)
        assert pids(c) == before
        for pid in before:
            os.kill(pid, 9)
        eventually(lambda: not pids(c) & before, "their end is seen", 10 * SLOW)
        wait_idle(c, 2)
        wait_stored(service, files_of(0) - 2)  # nor a ledger


def begin_with_values(service: Service, size: int) -> int:
    """So many bytes of them, in the session "s". Returns what the daemon had mapped before."""
    service.configure({"default": installed_pool("sessions", 1, start="exec", session_max_bytes="64M")})
    service.drop_in(RATE)
    service.start()
    used = int(Path(f"/proc/{service.main_pid()}/statm").read_text().split()[0]) * resource.getpagesize()
    with service.client() as c:
        c.execute("here", session="s")
        for i in range(4):
            c.call("session.put", session="s", values={f"key{i}": b"x" * (size // 4)})
    return used


def test_a_ledger_that_was_refused_is_not_gone_on_with_after_a_crash(service: Service, program: Path) -> None:
    """It is sound, and could not be mapped beside what was handed over: what it holds is from before the upgrade."""
    size = 40 << 20
    used = begin_with_values(service, size)
    put_first(program, f"ulimit -v {(used + size + size // 2) >> 10}")
    upgrade(service)
    assert service.journal.records("PYPOOL_EVENT=ledger.refused")
    put_first(program, ":")
    crash(service)
    with service.client() as c:
        wait_idle(c, 1)
        assert c.call("sessions") == []


def test_a_session_that_was_lost_in_it_does_not_come_back_after_a_crash(service: Service, program: Path) -> None:
    """There was no memory for its values, but for the ledger, which is shared."""
    size = 40 << 20
    begin_with_values(service, size)
    put_first(program, f"ulimit -d {size // 2 >> 10}")
    upgrade(service)
    assert not service.journal.records("PYPOOL_EVENT=ledger.refused")
    put_first(program, ":")
    for _ in range(2):
        with service.client() as c:
            assert c.fail_execute("here", session="s").code == "session_lost"
        crash(service)


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
