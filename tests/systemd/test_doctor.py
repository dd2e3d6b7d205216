"""`pypoolctl doctor` about the real unit."""

from __future__ import annotations

import json
from typing import Any

from tests.systemd.machine import run
from tests.systemd.service import Service, installed_pool


def findings(service: Service, check: str) -> list[Any]:
    done = run("pypoolctl", "--socket", str(service.socket), "--json", "doctor")
    return [f for f in json.loads(done.text)["findings"] if f["check"] == check]


def test_the_unit_that_is_shipped_is_as_it_should_be(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.start()
    (finding,) = findings(service, "unit")
    assert (finding["level"], finding["message"]) == ("ok", "pypoold.service is as it should be")
    assert [f["level"] for f in findings(service, "configuration")] == ["ok"]
    assert {f["level"] for f in findings(service, "limits")} == {"ok"}


def test_a_drop_in_that_spoils_it(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.drop_in("[Service]\nKillMode=control-group\nWatchdogSec=0\nTimeoutStopSec=20s\n")
    service.start()
    told = " ".join(f["message"] for f in findings(service, "unit") if f["level"] == "warning")
    assert "KillMode" in told and "watchdog" in told and "TimeoutStopSec is 20 s" in told
