"""Limits of a worker in cgroups that systemd gives to the service, by the drop-in that docs/operations.md has."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest

from tests.support.daemon import ROOT, SLOW, Daemon
from tests.support.scenes import wait_dead, wait_workers, workers
from tests.support.waiting import eventually
from tests.systemd.machine import CGROUPS, must, run
from tests.systemd.service import Service, installed_pool

V2 = (CGROUPS / "cgroup.controllers").exists()
AS_ROOT = "User=root\nGroup=root\n"  # whom alone systemd gives cgroups of version 1
NEEDED = {"memory", "pids"}
FOUND = set((CGROUPS / "cgroup.controllers").read_text().split()) if V2 else {path.name for path in CGROUPS.iterdir()}
needs_controllers = pytest.mark.skipif(not FOUND >= NEEDED, reason="memory and pids are not controllers of this machine")
STARTS = pytest.mark.parametrize("start", ["exec", "fork"])


def drop_in() -> str:
    """The first block of text under "Limits of a worker"."""
    section = (ROOT / "docs/operations.md").read_text().split("\n## Limits of a worker\n")[1]
    return section.split("```\n")[1] + ("" if V2 else AS_ROOT)


def hungry(n: int = 1, **settings: Any) -> dict[str, Any]:
    return installed_pool("hungry", n, **settings)


def begin(service: Service, **pools: dict[str, Any]) -> None:
    service.drop_in(drop_in())
    service.configure(pools)
    service.start()


def groups_of(service: Service) -> set[str]:
    """The names of the cgroups that are below those of the service."""
    return {
        os.path.basename(place)
        for top, names, _ in os.walk(CGROUPS) if os.path.basename(top) == service.unit
        for place in names if place.startswith("worker-")
    }


@needs_controllers
@STARTS
def test_the_oom_killer_takes_one_worker_and_nobody_else(service: Service, start: str) -> None:
    begin(service, default=hungry(2, start=start, limit_memory="64M"), free=hungry(start=start))
    daemon = service.main_pid()
    with service.client() as c:
        before = {w["worker"]: w["pid"] for w in workers(c)}
        error = c.fail_execute("hoard", 300)
        assert (error.code, error.cause["reason"]) == ("worker_died", "oom")
        assert "limit_memory of the pool allows 64 MiB" in error.message
        dead = error.fields["worker"]
        assert wait_dead(c, dead)["why"] == "oom"
        assert c.execute("hoard", 300, pool="free") == 300 << 20
        wait_workers(c, "idle", 2, pool="default")
        now = {w["worker"]: w["pid"] for w in workers(c)}
        assert {w: p for w, p in now.items() if w in before} == {w: p for w, p in before.items() if w != dead}
    assert (service.main_pid(), service.property("NRestarts")) == (daemon, "0")
    assert service.property("ActiveState") == "active"
    records = service.journal.records("PYPOOL_EVENT=worker.state", f"PYPOOL_WORKER={dead}", "PYPOOL_STATE=dead")
    assert [record["PYPOOL_REASON"] for record in records] == ["oom"]


@needs_controllers
@STARTS
def test_a_fork_bomb_fills_its_own_cgroup_and_ends_with_its_worker(service: Service, start: str) -> None:
    begin(service, default=hungry(start=start, limit_pids=40, call_timeout="1s", cancel_grace="100ms"), free=hungry(start=start))
    quiet = len(service.pids())
    with service.client() as c:
        number = c.start_execute("bomb")
        eventually(lambda: len(service.pids()) > quiet + 20, "it has begun", 10 * SLOW)
        assert c.execute("hoard", 1, pool="free") == 1 << 20, "others are served meanwhile"
        assert len(service.pids()) <= quiet + 40
        assert c.wait_error(number).code == "deadline_exceeded"
        eventually(lambda: len(service.pids()) <= quiet, "all of it is gone", 20 * SLOW)
        assert c.execute("hoard", 1) == 1 << 20


@needs_controllers
@STARTS
def test_a_stray_that_has_lost_its_marks_ends_with_its_worker(service: Service, start: str) -> None:
    begin(service, default=hungry(start=start, limit_pids=40), free=hungry(start=start))
    with service.client() as c:
        left, stays = c.execute("leave_without_a_trace"), c.execute("leave_without_a_trace", pool="free")
        for name in ("default", "free"):
            os.kill(c.execute("pid", pool=name), signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{left}"), "it is gone", 10 * SLOW)
        assert os.path.exists(f"/proc/{stays}"), "where there is no cgroup nobody knows whose it is"
    service.stop()
    assert service.pids() == [] and groups_of(service) == set()


@needs_controllers
def test_a_reload_brings_the_first_limits(service: Service) -> None:
    begin(service, default=hungry())
    assert groups_of(service) == set()
    service.configure({"default": hungry(limit_memory="64M", limit_pids=40)})
    assert service.reload().status == 0
    with service.client() as c:
        assert c.execute("groups") == sorted(groups_of(service)) != []
        assert c.fail_execute("hoard", 300).cause["reason"] == "oom"
    assert must("systemctl", "is-active", service.unit).strip() == "active"


@needs_controllers
@STARTS
def test_limits_outlive_an_upgrade(service: Service, start: str) -> None:
    """Also when one is just being started."""
    begin(service, default=hungry(2, start=start, limit_memory="64M", limit_pids=40))
    with service.client() as c:
        before = {w["worker"]: w["pid"] for w in workers(c)}
        os.kill(before[min(before)], signal.SIGKILL)
        wait_dead(c, min(before))
        c.call("upgrade")
        wait_workers(c, "idle", 2)
        assert c.execute("groups")[0] in groups_of(service)
        error = c.fail_execute("hoard", 300)
        assert error.cause["reason"] == "oom"
        wait_workers(c, "idle", 2)
    service.stop()
    assert service.pids() == [] and groups_of(service) == set()


@needs_controllers
@STARTS
def test_workers_that_outlive_a_crash_keep_their_limits(service: Service, start: str) -> None:
    begin(service, default=hungry(2, start=start, limit_memory="64M", limit_pids=40))
    with service.client() as c:
        before = {w["worker"]: w["pid"] for w in workers(c)}
    service.kill(signal.SIGKILL)
    service.wait_property("NRestarts", "1")
    service.wait_property("ActiveState", "active")
    with service.client() as c:
        wait_workers(c, "idle", 2)
        assert {w["worker"]: w["pid"] for w in workers(c)} == before
        assert c.execute("groups")[0] in groups_of(service)
        left = c.execute("leave_without_a_trace")
        error = c.fail_execute("hoard", 300)
        assert (error.cause["reason"], error.fields["worker"] in before) == ("oom", True)
        for worker in workers(c, "idle"):
            if worker["worker"] in before:
                os.kill(worker["pid"], signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{left}"), "what it has left is gone with it", 10 * SLOW)
    service.stop()
    assert service.pids() == [] and groups_of(service) == set()


@needs_controllers
@pytest.mark.parametrize("user, reason", [("", "is not pypoold's to write to"), (AS_ROOT, "is systemd's")])
def test_without_the_drop_in_such_a_limit_is_refused(service: Service, user: str, reason: str) -> None:
    service.drop_in(f"[Service]\n{user}")
    service.configure({"default": hungry(limit_memory="64M")})
    assert run("systemctl", "start", service.unit).status == 1
    assert service.property("ExecMainStatus") == "78"
    told = service.journal.messages("PYPOOL_EVENT=config.refused")
    assert re.search(rf'default.*: limit_memory cannot be kept: .*{reason}; .*Delegate=memory pids', told)


@needs_controllers
def test_a_daemon_in_a_scope_of_a_shell_has_cgroups_too() -> None:
    """As docs/configuration.md has it for a shell."""
    (command,) = re.findall(r"`(systemd-run .*) pypoold …`", (ROOT / "docs/configuration.md").read_text())
    daemon = Daemon({"default": hungry(limit_memory="64M")}, prefix=[*command.split(), "--quiet"])
    try:
        with daemon.client() as c:
            error = c.fail_execute("hoard", 300)
            assert (error.code, error.cause["reason"]) == ("worker_died", "oom")
            wait_workers(c, "idle", 1)
        daemon.stop()
    finally:
        if not daemon.stopped:
            daemon.discard()
