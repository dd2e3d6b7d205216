"""However the daemon ends, nothing of it is left."""

from __future__ import annotations

import os
import signal

from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.machine import run
from tests.systemd.service import Service, installed_pool


def check_empty(service: Service) -> None:
    """Nobody waits for what is killed and no child of the daemon's."""
    eventually(lambda: not service.pids(), "no process in the cgroup", 10 * SLOW)


def test_a_stop_lets_a_running_call_finish(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.start()
    with service.client() as c:
        number = c.start_execute("sleep", 1.0)
        eventually(lambda: bool(c.call("status")["calls"]["running"]), "it runs")
        service.stop()
        assert c.wait(number).value() == 1.0
    assert (service.property("ActiveState"), service.property("Result")) == ("inactive", "success")
    assert service.pids() == []


def test_a_stop_ends_what_handlers_have_left(service: Service) -> None:
    service.configure({"default": installed_pool("leaver")})
    service.start()
    with service.client() as c:
        left = c.execute("leave_without_environment")
    assert left in service.pids()
    service.stop()
    check_empty(service)


def test_what_handlers_have_left_ends_with_their_worker_also_after_a_crash_of_the_daemon(service: Service) -> None:
    service.configure({"default": installed_pool("leaver")})
    service.start()
    with service.client() as c:
        left = c.execute("leave_without_environment")
        worker = c.execute("pid")
    service.kill(signal.SIGKILL)
    service.wait_property("NRestarts", "1")
    service.wait_property("ActiveState", "active")
    assert service.execute("pid") == worker
    assert left in service.pids(), "its worker lives"
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not {left, worker} & set(service.pids()), "both are gone", 10 * SLOW)
    assert service.execute("pid") != worker


def test_a_crash_ends_what_workers_have_left_that_are_gone(service: Service) -> None:
    """Nobody has seen that end: neither the daemon that is killed nor the next one."""
    service.configure({"default": installed_pool("leaver")})
    service.start()
    with service.client() as c:
        left = c.execute("leave_without_environment")
        worker = c.execute("pid")
    service.kill(signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    service.kill(signal.SIGKILL)
    service.wait_property("NRestarts", "1")
    service.wait_property("ActiveState", "active")
    assert service.execute("pid") != worker
    eventually(lambda: left not in service.pids(), "it has been killed", 10 * SLOW)


def test_workers_end_when_the_daemon_is_not_started_again(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.drop_in("[Service]\nRestart=no\n")
    service.start()
    with service.client() as c:
        c.start_execute("sleep", 600.0)
        eventually(lambda: bool(c.call("status")["calls"]["running"]), "it runs")
        service.kill(signal.SIGKILL)
        service.wait_property("ActiveState", "failed")
    check_empty(service)


def test_a_failed_start_leaves_nothing(service: Service) -> None:
    service.configure({"default": installed_pool("leaves_in_import")}, require_all=True)
    service.drop_in("[Service]\nRestart=no\n")
    assert run("systemctl", "start", service.unit).status == 1
    assert "left in the import" in service.journal.messages("PYPOOL_EVENT=worker.output")
    check_empty(service)


def test_a_start_that_takes_too_long_leaves_nothing(service: Service) -> None:
    service.configure({"default": installed_pool("hangs_in_import")})
    service.drop_in("[Service]\nRestart=no\nTimeoutStartSec=1\nTimeoutStopSec=1\n")
    assert run("systemctl", "start", service.unit).status == 1
    assert service.property("Result") == "timeout"
    check_empty(service)


def test_a_daemon_that_never_starts_is_given_up_and_leaves_nothing(service: Service) -> None:
    service.configure({"default": installed_pool("leaves_in_import")}, require_all=True)
    service.drop_in("[Unit]\nStartLimitIntervalSec=300\nStartLimitBurst=2\n[Service]\nRestartSec=1ms\n")
    assert run("systemctl", "start", service.unit).status == 1
    service.wait_property("ActiveState", "failed")
    assert "Start request repeated too quickly" in service.journal.messages(f"UNIT={service.unit}")
    check_empty(service)
