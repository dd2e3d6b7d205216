"""record_failures: what a daemon keeps of calls that failed, and that replay fails in the same way."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from tests.support.daemon import BUILD, PYTHON, SLOW, Daemon, pool

StartDaemon = Callable[..., Daemon]
SECRET = "correct horse battery staple"


def recorded(directory: Path) -> list[dict[str, Any]]:
    return [msgpack.unpackb(path.read_bytes(), strict_map_key=False) for path in files(directory)]


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.call")) if directory.exists() else []


def wait_files(daemon: Daemon, directory: Path, n: int) -> list[Path]:
    """The answer goes out before the record is written, and its file is there before what is in it. One call has failed."""
    daemon.wait_log(r"call\.recorded")
    assert len(files(directory)) == n
    return files(directory)


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(BUILD / "python_worker")}
    command = [PYTHON, "-m", "pypool_worker.replay", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * SLOW, check=False)


def test_a_handlers_exception_is_recorded_for_the_daemon_alone_and_raised_again_by_replay(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    directory = tmp_path / "failures"
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1, record_failures=str(directory))})
    with daemon.client() as c:
        assert c.execute("echo", SECRET) == SECRET
        error = c.fail_execute("fail", SECRET, traceparent="00-ab-cd-01")
        (path,) = wait_files(daemon, directory, 1)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (record,) = recorded(directory)
        assert (record["target"], record["args"], record["code"]) == ("fail", [SECRET], "app_error")
        assert (record["message"], record["cause"]["type"]) == (error.message, error.cause["type"])
        assert (record["python"], record["app"], record["traceparent"]) == (PYTHON, "pypool_worker.demo", "00-ab-cd-01")
        assert any(entry.startswith("PATH=") for entry in record["environment"])
        lines = [line for line in daemon.log().splitlines() if SECRET in line and "worker.output" not in line]
        assert lines == [], "arguments went into the log"
        done = replay(path)
        assert done.returncode == 1, done.stderr
        assert f"{error.cause['type']}: {SECRET}" in done.stderr and "raised again" in done.stderr


def test_a_crash_is_recorded_and_crashes_replay_with_the_same_stack(start_daemon: StartDaemon, tmp_path: Path) -> None:
    directory = tmp_path / "failures"
    daemon = start_daemon({"default": pool("nasty", 1, record_failures=str(directory))})
    with daemon.client() as c:
        assert c.fail_execute("crash").code == "worker_died"
        (path,) = wait_files(daemon, directory, 1)
        (record,) = recorded(directory)
        assert (record["code"], record["executed"], record["cause"]["signal"]) == ("worker_died", "maybe", 11)
        done = replay(path)
        assert done.returncode == -11, done.stderr
        assert "Fatal Python error: Segmentation fault" in done.stderr and "in crash" in done.stderr


def test_large_arguments_are_kept_until_the_call_has_failed(start_daemon: StartDaemon, tmp_path: Path) -> None:
    directory, large = tmp_path / "failures", b"\xff" * 3_000_000
    daemon = start_daemon({"default": pool("nasty", 1, record_failures=str(directory))})
    with daemon.client() as c:
        error = c.fail_execute("sys_exit", large)
        assert error.code == "app_error"
        wait_files(daemon, directory, 1)
        assert recorded(directory)[0]["args"] == [large]


def test_what_succeeds_or_never_ran_is_not_recorded(start_daemon: StartDaemon, tmp_path: Path) -> None:
    directory = tmp_path / "failures"
    daemon = start_daemon({"default": pool("nasty", 1, record_failures=str(directory))})
    with daemon.client() as c:
        assert c.execute("echo", 1) == 1
        assert c.fail_execute("no_such_handler").code == "unknown_target"
        running = c.start_execute("sleep", 30)
        assert c.fail_execute("echo", timeout_ms=50).executed == "never"
        c.call("cancel", id=running)
        c.wait(running)
        assert c.fail_execute("unserializable").code == "unserializable"
        wait_files(daemon, directory, 1)
        assert [r["code"] for r in recorded(directory)] == ["unserializable"]


def test_at_most_100_records_are_kept_and_those_of_before_count(start_daemon: StartDaemon, tmp_path: Path) -> None:
    directory = tmp_path / "failures"
    directory.mkdir(mode=0o700)
    (directory / "notes.txt").write_text("mine")
    for i in range(120):
        (directory / f"default-{1600000000000 + i}-1.call").write_bytes(b"old")
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1, record_failures=str(directory))})
    with daemon.client() as c:
        c.fail_execute("fail")
        wait_files(daemon, directory, 100)
    assert files(directory)[0].name == "default-1600000000021-1.call"
    assert (directory / "notes.txt").exists()


def test_a_directory_that_others_may_change_is_refused_and_calls_go_on(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    directory, link = tmp_path / "open", tmp_path / "link"
    directory.mkdir()
    directory.chmod(0o777)
    (tmp_path / "target").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "target")
    pools = {
        "default": pool("pypool_worker.demo", 1, record_failures=str(directory)),
        "linked": pool("pypool_worker.demo", 1, record_failures=str(link)),
    }
    daemon = start_daemon(pools)
    with daemon.client() as c:
        for name in pools:
            assert c.fail_execute("fail", pool=name).code == "app_error"
            assert c.execute("echo", 2, pool=name) == 2
        daemon.wait_log("archive.failed.*others may write")
        assert [p["recorder"] for p in c.call("status")["pools"]] == ["unusable", "unusable"]
    assert files(directory) == [] and files(tmp_path / "target") == []


def test_nothing_is_recorded_unless_it_is_asked_for(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    with daemon.client() as c:
        assert c.fail_execute("fail").code == "app_error"
    assert "call.recorded" not in daemon.log() and "recorder.open" not in daemon.log()
