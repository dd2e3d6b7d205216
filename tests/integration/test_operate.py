"""What an operator does with a daemon that runs, by the wire and by pypoolctl."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from tests.support.daemon import Daemon, pool
from tests.support.daemon_life import check_end
from tests.support.scenes import pool_of, wait_dead, wait_in_handler, wait_queued, wait_running, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def test_a_paused_pool_starts_nothing_and_loses_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 2)})
    with daemon.client() as c, daemon.client() as admin:
        session = c.execute("add", 1, 1, session="s")
        assert session == 2
        lease = c.call("checkout", type="anonymous")["lease"]
        running = c.start_execute("sleep", 1.5)
        wait_running(admin, "sleep")
        told = admin.call("pool.pause")
        assert told == {"pool": "default", "state": "paused", "queued": 0, "running": 2 - 1}
        waiting = [c.start("execute", target="add", args=[n, n]) for n in range(3)]
        waiting.append(c.start("execute", target="add", args=[3, 3], session="s"))
        waiting.append(c.start("checkout", type="anonymous", timeout_ms=20_000))
        wait_queued(admin, 5)
        assert c.execute("add", 1, 2, lease=lease) == 3, "leases go on"
        assert c.wait(running).value() is None, "what runs ends"
        assert pool_of(admin)["queued"] == 5 and admin.call("pool.pause")["queued"] == 5
        error = c.fail("execute", target="add", args=[1, 2], queue_timeout_ms=100)
        assert error.code == "queue_timeout" and "the pool is paused" in error.message
        assert admin.call("pool.resume")["queued"] == 5
        assert [c.wait(number).value() for number in waiting[:4]] == [0, 2, 4, 6]
        assert c.call("checkin", lease=lease) and c.call("checkin", lease=c.wait(waiting[4]).value()["lease"])


def test_a_paused_pool_can_be_reloaded_and_ended(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c, daemon.client() as admin:
        admin.call("pool.pause")
        waiting = c.start_execute("add", 1, 2)
        assert admin.call("pool.reload")["generation"] == 2
        assert pool_of(admin)["state"] == "paused"
        daemon.signal(signal.SIGTERM)
        assert c.wait_error(waiting).code == "draining"
    check_end(daemon, 0)


def test_a_pool_is_resized(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 2)})
    with daemon.client() as c, daemon.client() as admin:
        assert admin.call("pool.resize", max_workers=4, min_workers=4) == {"pool": "default", "min_workers": 4, "max_workers": 4}
        wait_workers(admin, "idle", 4)
        calls = [c.start_execute("sleep", 1.5) for _ in range(4)]
        wait_running(admin, "sleep", 4)
        assert admin.call("pool.resize", max_workers=1) == {"pool": "default", "min_workers": 1, "max_workers": 1}
        assert [c.wait(call).value() for call in calls] == [None] * 4, "what runs ends"
        eventually(lambda: bool(len(workers(admin)) == 1), "one is left")
        assert {w["why"] for w in workers(admin, "dead")} == {"surplus"}
        refused: list[tuple[dict[str, int], str]] = [
            ({}, "needs"), ({"max_workers": 0}, "accepted"), ({"max_workers": 5000}, "accepted"),
            ({"min_workers": 3, "max_workers": 2}, "less than")]
        for wrong, told in refused:
            error = admin.fail("pool.resize", **wrong)
            assert error.code == "bad_request" and told in error.message
        admin.call("pool.reload")
        wait_workers(admin, "idle", 2)
        assert (pool_of(admin)["min_workers"], pool_of(admin)["max_workers"]) == (2, 2), "that of the file"


def test_workers_are_recycled_between_their_calls(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 2)})
    with daemon.client() as c, daemon.client() as admin:
        before = {w["worker"] for w in workers(admin)}
        running = c.start_execute("sleep", 1.5)
        wait_running(admin, "sleep")
        assert admin.call("pool.recycle") == {"pool": "default", "recycled": 2}
        assert admin.call("pool.recycle")["recycled"] == 0, "they are due already"
        assert c.wait(running).value() is None
        eventually(lambda: bool(not before & {w["worker"] for w in workers(admin)} and len(workers(admin, "idle")) == 2), "all new")
        assert {w["why"] for w in workers(admin, "dead")} == {"recycle"}
        one = workers(admin, "idle")[0]["worker"]
        assert admin.call("pool.recycle", worker=one)["recycled"] == 1
        wait_dead(admin, one)
        assert admin.fail("pool.recycle", worker=one).message == f"worker {one} is dead"
        assert pool_of(admin)["generation"] == 1


def test_a_worker_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1, breaker_failures=1)})
    with daemon.client() as c, daemon.client() as admin:
        running = c.start_execute("sleep", 60)
        (call,) = wait_running(admin, "sleep")
        wait_in_handler(admin, call["worker"], "sleep")  # a call that it has not read is given to another one
        assert admin.call("worker.kill", worker=call["worker"])["pool"] == "default"
        error = c.wait_error(running)
        assert (error.code, error.executed, error.cause["reason"]) == ("worker_died", "maybe", "operator")
        assert "operator" in error.message
        assert c.execute("add", 1, 2) == 3, "it was replaced, and the breaker is closed"
        assert wait_dead(admin, call["worker"])["why"] == "operator"
        assert admin.fail("worker.kill", worker=10**6).message == "there is no worker 1000000"
        assert "needs worker" in admin.fail("worker.kill").message


def test_a_template_is_killed_and_comes_back(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1, start="fork")})
    with daemon.client() as c:
        number = pool_of(c)["template"]["worker"]
        c.call("worker.kill", worker=number)
        eventually(lambda: bool(pool_of(c)["template"]["state"] == "warm" and pool_of(c)["template"]["worker"] != number), "another one")
        assert pool_of(c)["template"]["lost"] == 1 and c.execute("add", 1, 2) == 3


def test_the_daemon_ends_when_it_is_told_to(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c, daemon.client() as admin:
        running = c.start_execute("sleep", 1.5)
        wait_running(admin, "sleep")
        assert admin.call("shutdown") == {"now": False}
        assert admin.fail("execute", target="add", args=[1, 2]).code == "draining"
        assert admin.fail("pool.pause").code == "draining"
        assert c.wait(running).value() is None
    check_end(daemon, 0)


def test_the_daemon_ends_now(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c:
        running = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        told = daemon.ctl("shutdown", "--now")
        assert (told.returncode, told.stdout) == (0, "the daemon ends now\n")
        assert c.wait_error(running).code == "cancelled"
    check_end(daemon, 0)


def test_pypoolctl_does_it_too(start_daemon: StartDaemon) -> None:
    settings = pool("shows", 1)
    daemon = start_daemon({"one": settings, "two": settings})
    with daemon.client() as c:
        both = daemon.ctl("pause")
        assert both.returncode == 0 and both.stdout.splitlines() == [
            "pool one is paused: 0 calls run, 0 wait", "pool two is paused: 0 calls run, 0 wait"]
        assert [p["state"] for p in c.call("pools")] == ["paused", "paused"]
        assert daemon.ctl("resume", "two").stdout == "pool two is serving: 0 calls run, 0 wait\n"
        running = c.start("execute", target="sleep", args=[2.0], pool="two")
        wait_running(c, "sleep")
        assert daemon.ctl("drain", "two").stdout == "pool two is paused: 1 call runs, 0 wait\n"
        assert c.wait(running).value() is None
        assert daemon.ctl("resume").returncode == 0
        resized = daemon.ctl("resize", "one", "--min", "2", "--max", "3")
        assert resized.stdout == "pool one has 2 to 3 workers until its next reload\n"
        assert daemon.ctl("resize", "one").returncode == 2 and daemon.ctl("resize", "--max", "1").returncode == 2
        wait_workers(c, "idle", 3)
        recycled = daemon.ctl("recycle", "one", "--wait")
        assert recycled.stdout == "pool one: 2 workers will be replaced, each after its call\n"
        assert pool_of(c, "one")["due"] == 0
        assert json.loads(daemon.ctl("--json", "recycle", "two").stdout)["recycled"] == 1
        victim = workers(c, "idle", pool="one")[0]
        refused = daemon.ctl("kill", f"two/{victim['worker']}")
        assert refused.returncode == 1 and f"worker {victim['worker']} is of pool one, and not of two" in refused.stderr
        killed = daemon.ctl("kill", f"one/{victim['worker']}")
        assert killed.stdout == f"worker {victim['worker']} (pid {victim['pid']}) of pool one is being killed\n"
        eventually(lambda: not os.path.exists(f"/proc/{victim['pid']}"), "it is gone")
        assert daemon.ctl("kill").returncode == 2 and daemon.ctl("kill", "me").returncode == 2
        assert daemon.ctl("pause", "nowhere").returncode == 1
