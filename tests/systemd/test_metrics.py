"""The metrics socket: who gets in, what it answers, and that nothing is left of a connection."""

from __future__ import annotations

import grp
import socket
from collections.abc import Iterator

import pytest

from tests.support.daemon import SLOW, Value, configuration
from tests.support.exposition import Family, read
from tests.support.users import ALICE, BOB, acting_as
from tests.support.waiting import eventually
from tests.systemd.machine import must, run
from tests.systemd.service import Service, installed_pool

UNIT = "pypoold-metrics.socket"
SOCKET = "/run/pypoold/metrics.sock"
PORT = 9784
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANOTHER_PLACE = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{PORT}\n"


@pytest.fixture
def metrics(service: Service) -> Iterator[Service]:
    """The service with its metrics socket, which listens."""
    must("systemctl", "start", UNIT)
    yield service
    must("systemctl", "stop", UNIT)
    run("systemctl", "reset-failed", UNIT)


def connect(address: str | tuple[str, int] = SOCKET) -> socket.socket:
    s = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    s.settimeout(30 * SLOW)
    try:
        s.connect(address)
    except OSError:
        s.close()
        raise
    return s


def fetch(s: socket.socket) -> tuple[int, str]:
    """Status and body of the answer to a GET."""
    with s:
        s.sendall(GET)
        answer = b""
        while data := s.recv(65536):
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def fetched(s: socket.socket) -> dict[str, Family]:
    status, body = fetch(s)
    assert status == 200, body
    return read(body)


def check_nothing_is_left() -> None:
    def units() -> str:
        return must("systemctl", "list-units", "--all", "--plain", "--no-legend", "pypoold-metrics@*")

    eventually(lambda: units() == "", "no unit is left of a connection", 30 * SLOW)


def test_members_of_the_group_can_fetch_the_metrics(metrics: Service) -> None:
    metrics.configure({"default": installed_pool("nasty", 2)})
    metrics.start()
    assert metrics.execute("echo", 1) == 1
    with acting_as(ALICE, groups=[grp.getgrnam("pypool").gr_gid]):
        several = [connect() for _ in range(3)]
    for s in several:
        assert fetched(s)["pypool_calls_accepted_total"].value(pool="default") == 1
    with acting_as(BOB), pytest.raises(PermissionError):
        connect()
    check_nothing_is_left()


def test_whoever_asks_is_a_user_with_the_group_of_the_socket(metrics: Service) -> None:
    them: dict[str, Value] = {"gid": ["pypool"], "role": "observe"}
    pools = {"default": installed_pool("nasty"), "hidden": installed_pool("nasty")}
    metrics.write(configuration({}, pools, {"them": {**them, "pools": ["default"]}}))
    metrics.start()
    assert fetch(connect())[0] == 503
    assert "denied" in metrics.journal.messages("SYSLOG_IDENTIFIER=pypoolctl")
    metrics.stop()
    metrics.write(configuration({}, pools, {"them": them}))
    metrics.start()
    assert fetched(connect())["pypool_workers_minimum"].value(pool="hidden") == 1
    check_nothing_is_left()


def test_a_drop_in_has_it_listen_on_a_port(metrics: Service) -> None:
    metrics.configure({"default": installed_pool("nasty")})
    metrics.start()
    metrics.drop_in(ANOTHER_PLACE, unit=UNIT)
    must("systemctl", "restart", UNIT)
    with pytest.raises(OSError):
        connect()
    assert fetched(connect(("127.0.0.1", PORT)))["pypool_pool_state"].value(pool="default", state="serving") == 1


def test_the_sandbox_leaves_nothing_but_the_socket() -> None:
    text = must("systemd-analyze", "security", "--no-pager", "--threshold=10", "pypoold-metrics@1.service")
    assert "Overall exposure level" in text
