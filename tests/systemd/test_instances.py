"""pypoold@NAME: daemons side by side that share nothing but the code."""

from __future__ import annotations

import pwd
from collections.abc import Callable

from tests.systemd.machine import must
from tests.systemd.service import Service, installed_pool


def test_two_instances_run_side_by_side(make_service: Callable[[str], Service]) -> None:
    web, batch = make_service("web"), make_service("batch")
    web.configure({"default": installed_pool("nasty")})
    batch.configure({"default": installed_pool("slow_import", 2, environment=["PYPOOL_TEST_SECONDS=0"])})
    for service in (web, batch):
        service.start()
        assert (service.runtime.owner(), service.socket.owner()) == ("pypool", "pypool")
        must("pypoolctl", "--socket", str(service.runtime / "admin.sock"), "ping")
    assert (web.execute("pid") in web.pids(), batch.execute("pid") in batch.pids()) == (True, True)
    assert (len(web.pids()), len(batch.pids())) == (2, 3)

    web.stop()
    assert web.pids() == []
    assert batch.execute("echo", 1) == 1
    assert web.execute("echo", 2) == 2, "its socket starts it again"


def test_an_instance_is_reloaded_alone(make_service: Callable[[str], Service]) -> None:
    web, batch = make_service("web"), make_service("batch")
    for service in (web, batch):
        service.configure({"default": installed_pool("nasty")})
        service.start()
    before = web.execute("pid"), batch.execute("pid")
    assert web.reload().status == 0
    assert web.execute("pid") != before[0]
    assert batch.execute("pid") == before[1]


def test_an_instance_may_have_a_user_of_its_own(make_service: Callable[[str], Service]) -> None:
    """What docs/operations.md says of programs that must not trust one another."""
    web, batch = make_service("web"), make_service("batch")
    web.drop_in("[Service]\nUser=daemon\nGroup=daemon\n")
    web.drop_in("[Socket]\nSocketUser=daemon\n", unit=web.socket_unit)
    for service in (web, batch):
        service.configure({"default": installed_pool("works")})
        service.start()
    assert (web.execute("uid"), batch.execute("uid")) == tuple(pwd.getpwnam(name).pw_uid for name in ("daemon", "pypool"))
    assert (web.socket.owner(), batch.socket.owner()) == ("daemon", "pypool")
    for service, other in ((web, batch), (batch, web)):
        assert [service.execute("poke", pid) for pid in other.pids()] == ["Operation not permitted"] * 2
        with service.client() as c:
            assert c.execute("peek", other.main_pid())["memory"] == "Permission denied"
