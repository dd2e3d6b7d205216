"""The socket unit: who gets in, the first connection starts the daemon, and restarts refuse nobody."""

from __future__ import annotations

import grp
from contextlib import ExitStack

import pytest

from tests.support.client import Client
from tests.support.users import ALICE, BOB, acting_as
from tests.support.waiting import eventually
from tests.systemd.machine import must
from tests.systemd.service import Service, installed_pool
from tests.systemd.steady import calls_without_end


def test_the_first_connection_starts_the_daemon(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    must("systemctl", "start", service.socket_unit)
    assert service.property("ActiveState") == "inactive"
    assert service.execute("echo", "early") == "early"
    service.wait_property("ActiveState", "active")


def test_members_of_the_group_get_in_and_others_do_not(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.start()
    with acting_as(ALICE, groups=[grp.getgrnam("pypool").gr_gid]):
        member = service.client()
    with member:
        assert member.execute("echo", 1) == 1
        assert member.hello["role"] == "observe"
        assert [row["uid"] for row in member.call("clients")] == [ALICE]
    with acting_as(BOB), pytest.raises(PermissionError):
        Client(service.socket)
    with service.client() as root:
        assert root.hello["role"] == "admin"


def test_the_socket_for_admins_is_roots_and_outlives_a_restart(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")}, max_clients=1)
    path = service.runtime / "admin.sock"
    service.start()
    with Client(path) as root:
        assert root.execute("echo", 1) == 1
    with acting_as(ALICE, groups=[grp.getgrnam("pypool").gr_gid]), pytest.raises(PermissionError):
        Client(path)
    must("systemctl", "restart", service.unit)
    with ExitStack() as crowd:
        for _ in range(9):
            crowd.enter_context(service.client())
        with Client(path) as root:
            assert root.call("status")["clients"] == 10
        must("pypoolctl", "--socket", str(path), "status")


def test_the_socket_for_admins_can_be_switched_off_and_on(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    path = service.runtime / "admin.sock"
    must("systemctl", "mask", "--runtime", service.admin_unit)
    try:
        service.start()
        assert service.execute("echo", 1) == 1
        assert not path.exists()
    finally:
        must("systemctl", "unmask", "--runtime", service.admin_unit)
    must("systemctl", "restart", service.unit)
    with Client(path) as root:
        assert root.execute("echo", 2) == 2


def test_no_connection_is_refused_while_the_daemon_is_restarted(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.start()
    inode = service.socket.stat().st_ino
    with calls_without_end(service) as trouble:
        for _ in range(3):
            main = service.main_pid()
            must("systemctl", "restart", service.unit)
            assert service.main_pid() != main
    assert trouble == []
    assert service.socket.stat().st_ino == inode


def test_the_socket_is_there_until_its_own_unit_stops(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.start()
    service.stop()
    assert service.socket.is_socket()
    must("systemctl", "stop", service.socket_unit)
    eventually(lambda: not service.socket.exists(), "the socket is removed")
