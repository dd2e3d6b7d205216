"""A reload reads the configuration again: pool by pool when it has shown that it works, and a bad one changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.daemon import BUILD, Daemon, pool
from tests.support.scenes import pool_of, wait_running, workers
from tests.support.users import BOB, OPEN, client_of, needs_root
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
def demo(n: int = 2, **settings: Any) -> dict[str, Any]:
    return dict(pool("shows", n, **settings))


def test_fault_96_a_bad_configuration_keeps_the_old_one_and_names_the_line(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo()})
    with daemon.client() as c:
        before = {w["worker"] for w in workers(c)}
        daemon.write_config({}, text='socket = "{socket}"\npool "default" {\n  app = "a"\n  min_workerz = 3\n}\n')
        error = c.fail("pool.reload")
        assert (error.code, error.executed, error.fields["phase"]) == ("init_failed", "never", "config")
        assert f"{daemon.config}:4: " in error.message and "min_workerz" in error.message
        assert "nothing is changed" in error.message
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "config.refused" in daemon.log(), "SIGHUP tells the log")
        assert f"{daemon.config}:4: " in daemon.log().split("config.refused")[1]
        assert {w["worker"] for w in workers(c)} == before and pool_of(c)["generation"] == 1
        assert c.execute("add", 1, 2) == 3


def test_settings_are_those_of_the_file(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(environment=["COLOUR=red"])})
    with daemon.client() as c:
        assert c.execute("environment", "COLOUR") == "red"
        daemon.write_config({"default": demo(environment=["COLOUR=blue"], call_timeout="300ms", max_queue=7)})
        assert c.call("pool.reload")["generation"] == 2
        assert c.execute("environment", "COLOUR") == "blue"
        assert pool_of(c)["max_queue"] == 7
        error = c.fail("execute", target="sleep", args=[20])
        assert error.code == "deadline_exceeded" and error.cause["run_ms"] < 10_000


def test_fault_96_a_pool_shrinks_under_load_and_busy_workers_finish(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(4)})
    with daemon.client() as c, daemon.client() as admin:
        running = [c.start_execute("sleep", 1.0) for _ in range(4)]
        wait_running(admin, "sleep", 4)
        daemon.write_config({"default": demo(1)})
        reload = admin.start("pool.reload")
        for number in running:
            c.wait(number).value()
        assert admin.wait(reload).value()["generation"] == 2
        eventually(lambda: bool(len(workers(admin)) == 1), "one worker is left")
        assert c.execute("add", 1, 2) == 3
        daemon.write_config({"default": demo(3)})
        assert admin.call("pool.reload")["generation"] == 3
        eventually(lambda: bool(len(workers(admin, "idle")) == 3), "and it grows")


def test_what_cannot_start_with_the_new_settings_keeps_the_old(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo()})
    with daemon.client() as c:
        daemon.write_config({"default": demo(python="/bin/false")})
        error = c.fail("pool.reload")
        assert error.code == "init_failed" and "/bin/false" in error.message and "generation 1 serve on" in error.message
        assert c.execute("add", 1, 2) == 3
        assert pool_of(c)["python"] == "/usr/bin/python3"


def test_other_pools_need_a_restart(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(1)})
    with daemon.client() as c:
        daemon.write_config({"default": demo(1), "more": demo(1)})
        error = c.fail("pool.reload")
        assert (error.code, error.fields["phase"]) == ("init_failed", "config") and "restart" in error.message
        daemon.write_config({"default": demo(1)}, max_frame="1M", start_concurrency=7)
        assert c.call("pool.reload")["generation"] == 2
    told = [line for line in daemon.log().splitlines() if "config.needs_restart" in line]
    assert [line.rsplit("=", 1)[1] for line in told] == ["max_frame", "start_concurrency"]


@needs_root
def test_roles_hold_for_new_connections(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(1)}, access={"all": {"uid": ["*"], "role": "use"}}, **OPEN)
    with daemon.client() as c, client_of(daemon, BOB) as bob:
        assert bob.hello["role"] == "use"
        daemon.write_config({"default": demo(1)}, access={"all": {"uid": ["*"], "role": "observe"}}, **OPEN)
        c.call("pool.reload")
        with client_of(daemon, BOB) as again:
            assert again.hello["role"] == "observe"


def ctl(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BUILD / "pypoolctl"), "--socket", str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_dry_run_changes_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(2)})
    with daemon.client() as c:
        before = {w["worker"] for w in workers(c)}
        daemon.write_config({"default": demo(3, max_queue=7)})
        got = c.call("pool.reload", dry_run=True)
        assert (got["pool"], got["generation"], got["replaced"], got["dry_run"]) == ("default", 1, 2, True)
        phases = [p["phase"] for p in (got["template"] or []) + got["init"]]
        assert "imports" in phases and phases[-1] in ("imports", "start", "library")
        shown = pool_of(c)
        assert (shown["reload"], shown["reloads"], shown["generation"], shown["max_queue"]) == ("none", 0, 1, 1000)
        eventually(lambda: bool({w["worker"] for w in workers(c)} == before), "the canary has left")
        told = ctl(daemon, "reload", "--dry-run")
        assert told.returncode == 0 and told.stdout.startswith("pool default can be reloaded: a worker was ready in ")
        assert "2 would be replaced" in told.stdout and "imports" in told.stdout
        shown = json.loads(ctl(daemon, "--json", "reload", "--dry-run").stdout)
        assert shown["dry_run"] is True
        daemon.write_config({"default": demo(3, warmup="shows:nothing_like_it")})
        error = c.fail("pool.reload", dry_run=True)
        assert error.code == "init_failed" and "nothing_like_it" in error.message
        eventually(lambda: bool({w["worker"] for w in workers(c)} == before), "all canaries have left")


def test_a_dry_run_waits_for_a_reload_and_the_other_way_round(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(1)})
    with daemon.client() as c:
        numbers = [c.start("pool.reload", dry_run=dry) for dry in (True, False, True)]
        answers = [c.wait(number).value() for number in numbers]
        assert answers[-1]["generation"] >= 2 and answers[1]["generation"] == 2
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "all is done")
        assert pool_of(c)["generation"] == 2


def test_a_session_stays_what_it_was_when_affinity_changes(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(2, affinity="strict", drain_timeout="60s")})
    with daemon.client() as c:
        assert c.execute("add", 1, 2, session="old") == 3
        daemon.write_config({"default": demo(2, affinity="prefer", drain_timeout="60s")})
        c.call("pool.reload", wait=False)
        eventually(lambda: bool(pool_of(c)["generation"] == 2), "the canary serves")
        assert c.execute("add", 1, 2, session="new") == 3
        shown = {s["session"]: s["affinity"] for s in c.call("sessions")}
        assert shown == {"old": "strict", "new": "prefer"}
        assert c.execute("add", 1, 2, session="old") == 3
        assert c.call("session.close", session="old")
        eventually(lambda: bool(pool_of(c)["reload"] == "none"), "the reload is done")
        daemon.write_config({"default": demo(2, affinity="strict", drain_timeout="60s")})
        assert c.call("pool.reload")["generation"] == 3
        assert c.execute("add", 1, 2, session="new") == 3


def test_what_was_poisoned_is_free_when_nothing_is_refused_any_more(start_daemon: StartDaemon) -> None:
    settings = pool("leaver", 1, poison_kills=1)
    daemon = start_daemon({"default": settings})
    with daemon.client() as c:
        assert c.fail("execute", target="leave_and_die").code == "worker_died"
        assert c.fail("execute", target="leave_and_die").code == "poisoned"
        daemon.write_config({"default": {**settings, "poison_kills": 0}})
        c.call("pool.reload")
        assert c.fail("execute", target="leave_and_die").code == "worker_died"


def test_failures_are_recorded_where_the_file_says_now(start_daemon: StartDaemon, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    daemon = start_daemon({"default": pool("leaver", 1, poison_kills=0, record_failures=str(one))})
    with daemon.client() as c:
        for directory in (two, None):
            recorded = {} if directory is None else {"record_failures": str(directory)}
            daemon.write_config({"default": pool("leaver", 1, poison_kills=0, **recorded)})
            c.call("pool.reload")
            assert c.fail("execute", target="leave_and_die").code == "worker_died"
    assert not list(one.glob("**/*.call")) if one.exists() else True
    daemon.wait_log(r"call\.recorded")
    assert len([path for path in two.rglob("*") if path.is_file()]) == 1


@needs_root
def test_a_dry_run_takes_nothing_over(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(1)}, access={"all": {"uid": ["*"], "role": "use"}}, **OPEN)
    with daemon.client() as c:
        daemon.write_config({"default": demo(1)}, access={"all": {"uid": ["*"], "role": "observe"}}, **OPEN)
        assert c.call("pool.reload", dry_run=True)["dry_run"] is True
        with client_of(daemon, BOB) as bob:
            assert bob.hello["role"] == "use"
        c.call("pool.reload")
        with client_of(daemon, BOB) as bob:
            assert bob.hello["role"] == "observe"


def test_a_dry_run_needs_room(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": demo(1, replace="after")})
    with daemon.client() as c:
        error = c.fail("pool.reload", dry_run=True)
        assert error.code == "bad_request" and "replace = after" in error.message
