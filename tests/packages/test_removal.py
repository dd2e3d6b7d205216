"""What goes and what stays when the packages are removed. The fixture of all tests sees that a purge leaves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.packages import debs
from tests.systemd.machine import must, run
from tests.systemd.service import Service, installed_pool


def test_a_removal_ends_all_that_runs_and_keeps_the_configuration(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    assert service.reload().status == 0
    text = service.config.read_text()
    must("systemctl", "start", "pypoold-metrics.socket")
    debs.remove()
    assert service.pids() == []
    assert not service.runtime.exists()
    assert not Path("/usr/sbin/pypoold").exists()
    assert must("systemctl", "list-units", "--plain", "--no-legend", "pypoold*") == ""
    assert service.config.read_text() == text

    debs.install(debs.built())
    assert service.config.read_text() == text
    assert service.execute("echo", 1) == 1
    must("systemctl", "is-enabled", service.unit)


def test_a_removal_ends_instances_whose_files_are_their_makers(service: Service) -> None:
    web = Service("web")
    web.configure({"default": installed_pool("works")})
    web.start()
    web.execute("write", "/var/lib/pypoold-web/kept", "text")
    debs.purge()
    assert web.pids() == []
    assert not web.runtime.exists()
    assert web.config.exists()
    assert Path("/var/lib/pypoold-web/kept").read_text() == "text"
    shutil.rmtree("/etc/pypoold")
    shutil.rmtree("/var/lib/pypoold-web")


def test_a_purge_removes_what_handlers_have_kept_but_not_their_user(service: Service) -> None:
    service.configure({"default": installed_pool("works")})
    assert service.reload().status == 0
    service.execute("write", "/var/lib/pypoold/kept", "text")
    debs.remove()
    assert Path("/var/lib/pypoold/kept").read_text() == "text"
    debs.purge()
    assert not Path("/var/lib/pypoold").exists()
    assert run("id", "pypool").status == 0
