"""Limits of a worker: what they keep, what is told when they are reached, and that nobody else notices."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cgroups
from tests.support.client import Client
from tests.support.daemon import Daemon, pool
from tests.support.scenes import early_client, pool_of, wait_dead, wait_workers, workers
from tests.support.users import ALICE, needs_namespaces, reachable
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
STARTS = pytest.mark.parametrize("start", ["exec", "fork"])
needs_groups = pytest.mark.skipif(not cgroups.can_be_made(), reason="this process may make no cgroups")
MIB = 1 << 20


def hungry(n: int = 1, **settings: Any) -> dict[str, Any]:
    return dict(pool("hungry", n, **settings))


def fork_is_real(c: Client, start: str) -> None:
    if start == "fork":
        assert pool_of(c)["template"]["state"] == "warm"


@STARTS
def test_each_process_has_the_limits_of_its_pool_and_of_its_reload(start_daemon: StartDaemon, start: str) -> None:
    daemon = start_daemon({"default": hungry(start=start, limit_nofile=77, limit_as="2G")})
    with daemon.client() as c:
        fork_is_real(c, start)
        assert c.execute("limits") == {"files": 77, "space": 2048 * MIB}
        daemon.write_config({"default": hungry(start=start, limit_nofile=99, limit_as="3G")})
        assert c.call("pool.reload")["generation"] == 2
        fork_is_real(c, start)
        assert c.execute("limits") == {"files": 99, "space": 3072 * MIB}


@STARTS
def test_an_allocation_over_limit_as_says_so(start_daemon: StartDaemon, start: str) -> None:
    with start_daemon({"default": hungry(start=start, limit_as="1G")}).client() as c:
        fork_is_real(c, start)
        error = c.fail_execute("hoard", 2000)
        assert re.search(r"^MemoryError, hungry\.py line \d+; limit_as of the pool allows 1024 MiB of address space", error.message)
        assert c.execute("hoard", 1) == MIB


# ---- with a cgroup


@needs_groups
@STARTS
def test_one_that_takes_too_much_memory_dies_alone(start_daemon: StartDaemon, start: str) -> None:
    limited = hungry(2, start=start, limit_memory="64M")
    with start_daemon({"default": limited, "free": hungry(start=start)}).client() as c:
        fork_is_real(c, start)
        before = {w["worker"]: w["pid"] for w in workers(c)}
        error = c.fail_execute("hoard", 300)
        assert (error.code, error.executed, error.cause["reason"], error.cause["signal"]) == ("worker_died", "maybe", "oom", 9)
        assert re.search(
            r"was killed by the kernel for want of memory \(OOM killer, SIGKILL; its peak was \d+ MiB, limit_memory of the pool "
            r"allows 64 MiB\) while it ran hoard",
            error.message,
        )
        dead = error.fields["worker"]
        assert wait_dead(c, dead)["why"] == "oom"
        now = {w["worker"]: w["pid"] for w in workers(c)}
        assert {w: p for w, p in before.items() if w != dead} == {w: p for w, p in now.items() if w in before}
        assert c.execute("hoard", 20) == 20 * MIB
        assert c.execute("hoard", 300, pool="free") == 300 * MIB
        fork_is_real(c, start)


@needs_groups
def test_a_later_kill_is_not_taken_for_one_by_the_oom_killer(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": hungry(limit_memory="64M"), "free": hungry()}).client() as c:
        assert c.fail_execute("hoard", 300).cause["reason"] == "oom"
        for name in ("default", "free"):
            worker = wait_workers(c, "idle", 1, pool=name)[0]
            os.kill(worker["pid"], signal.SIGKILL)
            assert wait_dead(c, worker["worker"])["why"] == "crashed"


@needs_groups
def test_memory_of_what_a_worker_starts_counts_as_its_own(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": hungry(limit_memory="64M")}).client() as c:
        before = c.execute("pid")
        assert c.execute("child_hoard", 300) == -signal.SIGKILL  # in version 1 the largest process alone
        assert c.execute("pid") == before


@needs_groups
@STARTS
def test_processes_and_threads_are_bounded_and_the_error_says_by_what(start_daemon: StartDaemon, start: str) -> None:
    limited = hungry(start=start, limit_pids=16)
    with start_daemon({"default": limited, "free": hungry(start=start)}).client() as c:
        fork_is_real(c, start)
        told = "; limit_pids of the pool allows 16 processes and threads, those that the worker has started included"
        error = c.fail_execute("start_threads", 100)
        assert error.message.startswith("RuntimeError: can't start new thread") and error.message.endswith(told)
        error = c.fail_execute("start_processes", 100)
        assert error.message.startswith("BlockingIOError: [Errno 11]") and error.message.endswith(told)
        c.execute("start_threads", 100, pool="free")


@needs_groups
def test_an_error_for_another_reason_has_no_hint(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": hungry(limit_memory="64M")}).client() as c:
        assert "limit_pids" not in c.fail_execute("start_processes", "many").message


@needs_groups
@STARTS
def test_what_a_worker_has_left_without_a_trace_ends_with_it(start_daemon: StartDaemon, start: str) -> None:
    daemon = start_daemon({"default": hungry(start=start, limit_pids=32)})
    with daemon.client() as c:
        left, worker = c.execute("leave_without_a_trace"), c.execute("pid")
        assert os.path.exists(f"/proc/{left}")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{left}"), "it is gone", 5.0)
        eventually(lambda: len(cgroups.of_daemon(daemon.pid)) == (2 if start == "fork" else 1), "its cgroup too")


@needs_groups
@STARTS
def test_each_worker_has_cgroups_of_its_own_and_none_is_left(start_daemon: StartDaemon, start: str) -> None:
    daemon = start_daemon({"default": hungry(3, start=start, limit_memory="256M", limit_pids=64), "free": hungry()})
    with daemon.client() as c:
        assert c.execute("groups", pool="free") == []
        at_start = {c.execute("groups_at_start")[0] for _ in range(20)}
        seen = {c.execute("groups")[0] for _ in range(20)}
        names = {f"worker-{daemon.pid}.{w['worker']}" for w in workers(c, pool="default")}
        assert at_start <= names, "it is there before it runs anything of the application, but for imports of the template"
        assert seen <= names and {group.name for group in cgroups.of_daemon(daemon.pid)} >= names
        c.call("pool.recycle")
        eventually(lambda: not names & {group.name for group in cgroups.of_daemon(daemon.pid)}, "the old ones are removed")
    daemon.stop()
    assert cgroups.of_daemon(daemon.pid) == []


@needs_groups
@STARTS
def test_a_reload_brings_the_first_limits_and_takes_them_away(start_daemon: StartDaemon, start: str) -> None:
    daemon = start_daemon({"default": hungry(start=start)})
    with daemon.client() as c:
        assert c.execute("groups") == []
        daemon.write_config({"default": hungry(start=start, limit_memory="64M")})
        c.call("pool.reload")
        assert len(c.execute("groups")) == 1
        assert c.fail_execute("hoard", 300).cause["reason"] == "oom"
        daemon.write_config({"default": hungry(start=start)})
        c.call("pool.reload")
        assert c.execute("groups") == [] and c.execute("hoard", 300) == 300 * MIB
        eventually(lambda: not cgroups.of_daemon(daemon.pid), "no cgroup is left")
    daemon.take_baseline()  # with the place of the cgroups


@needs_groups
@STARTS
def test_workers_of_a_pool_that_is_too_small_to_start_say_why(start_daemon: StartDaemon, start: str) -> None:
    hoards = hungry(start=start, limit_memory="16M", preload=["hungry_import"])
    with start_daemon({"default": hoards}).client() as c:
        error = c.fail_execute("pid")
        assert error.code in ("init_failed", "circuit_open")
        assert "limit_memory of the pool allows 16 MiB" in error.message


@needs_groups
@STARTS
def test_a_daemon_of_another_user_uses_what_was_given_to_it(start_daemon: StartDaemon, place: Path, start: str) -> None:
    os.chown(place, ALICE, ALICE)
    with cgroups.given_to(ALICE) as prefix:
        settings = hungry(start=start, limit_memory="64M", limit_pids=32, path=[str(reachable().apps)])
        daemon = start_daemon({"default": settings}, prefix=prefix, program=reachable().build / "pypoold", directory=place,
                              socket_mode="0666", ready=False)
        with early_client(daemon) as c:
            assert c.fail_execute("hoard", 300).cause["reason"] == "oom"
            assert c.fail_execute("start_processes", 100).message.endswith("started included")
            wait_workers(c, "idle", 1)
        daemon.take_baseline()
        daemon.stop()


# ---- without


@pytest.fixture
def none_given() -> Iterator[list[str]]:
    """The words before a command that start it where cgroups cannot be written."""
    if os.geteuid() != 0:
        yield []
        return
    each = "".join(f"mount -o remount,bind,ro {mount} && " for mount in cgroups.mounts())
    yield ["unshare", "--mount", "/bin/sh", "-c", f'{each}exec "$@"', "sh"]


@needs_namespaces
def test_a_limit_that_cannot_be_kept_is_refused_at_the_start(start_daemon: StartDaemon, none_given: list[str]) -> None:
    daemon = start_daemon({"default": hungry(limit_memory="64M", limit_pids=32)}, prefix=none_given, ready=False)
    assert daemon.process.wait(30) == 78
    assert re.search(
        r'config\.refused reason="pool \\"default\\": limit_memory and limit_pids cannot be kept: .*Delegate=memory pids', daemon.log()
    )


@needs_namespaces
def test_a_reload_to_a_limit_that_cannot_be_kept_changes_nothing(start_daemon: StartDaemon, none_given: list[str]) -> None:
    daemon = start_daemon({"default": hungry()}, prefix=none_given)
    with daemon.client() as c:
        before = c.execute("pid")
        daemon.write_config({"default": hungry(limit_pids=32)})
        error = c.fail("pool.reload")
        assert error.code == "init_failed" and "limit_pids cannot be kept: " in error.message
        assert "nothing is changed" in error.message
        assert c.execute("pid") == before and pool_of(c)["generation"] == 1
