"""A daemon that hangs is killed, and another one goes on with its workers."""

from __future__ import annotations

import signal

from tests.systemd.service import Service, installed_pool


def test_fault_94_a_daemon_that_hangs_is_replaced(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.drop_in("[Service]\nWatchdogSec=2\nLimitCORE=0\n")
    service.start()
    before = service.pids()
    assert len(before) == 3
    service.kill(signal.SIGSTOP)
    service.wait_property("NRestarts", "1")
    service.wait_property("ActiveState", "active")
    assert "Watchdog timeout" in service.journal.messages(f"UNIT={service.unit}")
    assert service.execute("echo", 1) == 1
    assert len(set(before) & set(service.pids())) == 2, "its workers live on"
