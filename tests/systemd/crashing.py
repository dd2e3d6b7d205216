"""A service whose daemon is killed, and what is seen of its workers then."""

from __future__ import annotations

import signal
from typing import Any

from tests.support.client import Client
from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.service import Service

RATE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=1ms\n"


def crash(service: Service) -> None:
    """Until the next one serves."""
    before = service.main_pid()
    service.kill(signal.SIGKILL)
    eventually(lambda: service.main_pid() not in (0, before), "another daemon runs", 30 * SLOW)
    service.wait_property("ActiveState", "active")


def workers(c: Client) -> dict[int, dict[str, Any]]:
    return {w["worker"]: w for w in c.call("workers") if w["state"] not in ("dead", "stopping")}


def wait_idle(c: Client, n: int) -> None:
    eventually(lambda: [w["state"] for w in workers(c).values()] == n * ["idle"], f"{n} workers are idle", 30 * SLOW)


def pids(c: Client) -> set[int]:
    return {w["pid"] for w in workers(c).values()}


def files_of(n: int) -> int:
    """What is in the store while n workers live: seven for each, two of the ledger, a lock."""
    return 7 * n + 3


def wait_stored(service: Service, n: int) -> None:
    service.wait_property("NFileDescriptorStore", str(n))
