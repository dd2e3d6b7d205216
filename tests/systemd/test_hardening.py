"""What handlers need works in the sandbox of the unit, and what nobody needs does not."""

from __future__ import annotations

import pwd
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.users import ALICE, BOB, acting_as
from tests.systemd.machine import run
from tests.systemd.service import Service, installed_pool

WORKS = ("numbers", "program", "threads", "processes", "foreign_code", "own_files")
NETWORK = ("network", "names")


@pytest.mark.parametrize("start", ["exec", "fork"])
def test_handlers_do_what_python_programs_do(service: Service, start: str) -> None:
    service.configure({"default": installed_pool("works", start=start)})
    service.start()
    with service.client() as c:
        assert {name: c.execute(name) for name in WORKS} == dict.fromkeys(WORKS, "fine")
        assert c.call("pools")[0]["start"] == start
    if start == "fork":
        assert service.journal.records("PYPOOL_EVENT=template.warm")
        assert not service.journal.records("PYPOOL_EVENT=template.unfit")


def test_handlers_cannot_change_the_machine(service: Service) -> None:
    service.configure({"default": installed_pool("works")})
    service.start()
    with service.client() as c:
        assert c.execute("tries") == {
            "write /usr": "Read-only file system",
            "write /etc": "Read-only file system",
            "gain by setuid": "no new privileges",
            "make a namespace": "Operation not permitted",
            "load a module": "Operation not permitted",
        }


def test_handlers_get_a_network_by_the_drop_in_of_the_documentation(service: Service) -> None:
    service.configure({"default": installed_pool("works")})
    service.start()
    with service.client() as c:
        error = c.fail_execute("network")
        assert error.code == "app_error" and "Address family not supported" in error.message
    sandbox = (ROOT / "docs/operations.md").read_text().split("\n## Sandbox\n")[1]
    (line,) = re.findall(r"\| talk to a network \| `(.*)` \|", sandbox)
    service.drop_in(f"[Service]\n{line}\n")
    service.stop()
    service.start()
    with service.client() as c:
        assert {name: c.execute(name) for name in NETWORK} == dict.fromkeys(NETWORK, "fine")


def test_a_handler_cannot_look_into_the_daemon(service: Service) -> None:
    """They have one user; its memory and its files are closed to it all the same."""
    service.configure({"default": installed_pool("works")})
    service.start()
    pid = service.main_pid()
    with service.client() as c:
        assert c.execute("peek", pid) == {"memory": "Permission denied", "files": "Permission denied",
                                          "environment": "Permission denied", "trace": "Operation not permitted"}
        c.call("upgrade")
        assert c.execute("peek", pid)["files"] == "Permission denied"


def test_peers_are_told_apart(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.drop_in("[Socket]\nSocketMode=0666\n", unit=service.socket_unit)
    service.start()
    with acting_as(ALICE):
        alice = service.client()
    with acting_as(BOB):
        bob = service.client()
    with alice, bob, service.client() as root:
        assert sorted(row["uid"] for row in root.call("clients")) == [0, ALICE, BOB]


def test_the_user_of_the_daemon_is_no_admin(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.start()
    uid = service.socket.stat().st_uid
    assert uid != 0
    with acting_as(uid), service.client() as c:
        assert c.hello["role"] == "observe"


def test_temporary_files_are_private_and_state_is_kept(make_service: Callable[[str], Service]) -> None:
    service = make_service("web")
    service.configure({"default": installed_pool("works")})
    service.start()
    with service.client() as c:
        assert c.execute("own_files") == "fine"
        c.execute("write", "/tmp/private", "text")
        c.execute("write", "/var/lib/pypoold-web/kept", "text")
    assert not Path("/tmp/private").exists()
    service.stop()
    assert Path("/var/lib/pypoold-web/kept").read_text() == "text"


AS_ROOT = """[Service]
User=root
Group=root
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL
"""


def test_pools_of_other_users_need_a_daemon_that_is_root(service: Service) -> None:
    pools = {"default": installed_pool("works"), "other": installed_pool("works", user="nobody")}
    service.configure(pools)
    assert run("systemctl", "start", service.unit).status == 1
    assert "only root can run workers as another user" in service.journal.messages(f"_SYSTEMD_UNIT={service.unit}")

    service.drop_in(AS_ROOT)
    service.start()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert (service.execute("uid"), service.execute("uid", pool="other")) == (0, nobody)
    for start in ("exec", "fork"):
        pools["other"]["start"] = start
        service.configure(pools)
        assert service.reload().status == 0
        assert service.execute("uid", pool="other") == nobody
    service.stop()
    assert service.pids() == []
