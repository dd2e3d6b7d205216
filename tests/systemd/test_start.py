"""Type=notify: what `systemctl start` waits for, and what it tells when the daemon cannot run."""

from __future__ import annotations

from tests.systemd.machine import must, run
from tests.systemd.service import Service, installed_pool


def test_start_returns_when_all_pools_serve(service: Service) -> None:
    slow = installed_pool("slow_import", environment=["PYPOOL_TEST_SECONDS=1"])
    service.configure({"default": installed_pool("nasty"), "slow": slow})
    must("systemctl", "start", "--no-block", service.unit)
    service.wait_property("SubState", "start")
    assert service.property("ActiveState") == "activating"
    service.start()
    with service.client() as c:
        assert c.call("status")["state"] == "running"
    assert service.property("ActiveState") == "active"
    assert "2 of 2 workers serving" in must("systemctl", "status", service.unit)


def test_a_pool_that_cannot_start_is_named_by_the_status(service: Service) -> None:
    service.configure({"default": installed_pool("nasty"), "bad": installed_pool("import_error")})
    service.start()
    status = service.property("StatusText")
    assert "1 of 2 workers serving; degraded: bad" in status and "a_module_that_does_not_exist" in status
    assert service.execute("echo", 1) == 1


def test_with_require_all_the_start_fails(service: Service) -> None:
    pools = {"default": installed_pool("nasty"), "bad": installed_pool("import_error")}
    service.configure(pools, require_all=True)
    service.drop_in("[Service]\nRestart=no\n")
    assert run("systemctl", "start", service.unit).status == 1
    assert (service.property("Result"), service.property("ExecMainStatus")) == ("exit-code", "1")
    (record,) = service.journal.records("PYPOOL_EVENT=daemon.require_all")
    assert record["PYPOOL_POOL"] == "bad" and "a_module_that_does_not_exist" in record["PYPOOL_REASON"]
    assert service.pids() == []


def test_a_wrong_configuration_is_not_tried_again(service: Service) -> None:
    service.write('pool "default" {\n  app = "nasty"\n  min_worker = 1\n}\n')
    assert run("systemctl", "start", service.unit).status == 1
    assert (service.property("ActiveState"), service.property("ExecMainStatus")) == ("failed", "78")
    assert service.property("NRestarts") == "0"
    assert "/etc/pypoold/pypoold.conf:3: " in service.journal.messages(f"_SYSTEMD_UNIT={service.unit}")
