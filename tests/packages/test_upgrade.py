"""A later version takes the place of this one: nothing that was set is lost, and nobody is refused meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import debs
from tests.systemd.machine import must, run
from tests.systemd.service import APPS, Service, installed_pool
from tests.systemd.steady import calls_without_end


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return debs.make_newer(debs.built(), tmp_path_factory.mktemp("newer"))


@pytest.fixture
def web(service: Service) -> Iterator[Service]:
    """An instance that is enabled and runs."""
    web = Service("web")
    web.configure({"default": installed_pool("nasty")})
    must("systemctl", "enable", "--now", web.unit)
    yield web
    must("systemctl", "disable", "--now", web.unit, web.socket_unit, web.admin_unit)
    shutil.rmtree(web.config.parent)
    shutil.rmtree("/var/lib/pypoold-web")


def test_the_configuration_is_kept(service: Service, newer: list[Path]) -> None:
    more = Path("/etc/pypoold/conf.d/more.conf")
    more.write_text('pool "more" {\n  app = "nasty"\n  path = {"' + str(APPS) + '"}\n}\n')
    service.configure({"default": installed_pool("nasty")}, log_level="debug")
    text = service.config.read_text()
    debs.install(newer, "--force-confold")
    assert service.config.read_text() == text
    assert [service.execute("echo", 1, pool=pool) for pool in ("default", "more")] == [1, 1]
    more.unlink()


def test_a_configuration_that_nobody_changed_becomes_the_new_one(service: Service, newer: list[Path]) -> None:
    debs.install(newer)
    assert service.config.read_text().startswith("# later\n")


def test_the_new_daemon_serves_and_no_connection_is_refused(service: Service, newer: list[Path]) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    assert service.reload().status == 0
    main, inode = service.main_pid(), service.socket.stat().st_ino
    with calls_without_end(service) as trouble:
        debs.install(newer, "--force-confold")
    assert trouble == []
    assert service.main_pid() not in (0, main)
    assert service.socket.stat().st_ino == inode


def test_what_was_switched_off_stays_off(service: Service, newer: list[Path]) -> None:
    must("systemctl", "disable", "--now", service.unit, service.socket_unit)
    must("systemctl", "enable", "--now", "pypoold-metrics.socket")
    debs.install(newer)
    for unit in (service.unit, service.socket_unit):
        assert run("systemctl", "is-enabled", unit).text.strip() == "disabled"
        assert run("systemctl", "is-active", unit).text.strip() == "inactive"
    for question in ("is-enabled", "is-active"):
        must("systemctl", question, "pypoold-metrics.socket")


def test_an_instance_is_restarted(web: Service, newer: list[Path]) -> None:
    main = web.main_pid()
    debs.install(newer)
    assert web.main_pid() not in (0, main)
    assert web.execute("echo", 1) == 1
