"""The start of workers: what fails, how soon the callers know, and how often it is tried again."""

from __future__ import annotations

import os
import re
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import procfs
from tests.support.daemon import ROOT, SLOW, Daemon, pool
from tests.support.scenes import (
    early_client,
    failing,
    lines,
    now,
    pool_of,
    wait_dead,
    wait_queued,
    wait_workers,
    workers,
)
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
STUB = str(ROOT / "tests" / "support" / "stub_worker.py")


def stub(script: str, ledger: Path, n: int = 1, **settings: Any) -> dict[str, Any]:
    """A pool of scripted workers, see tests/support/stub_worker.py."""
    return pool("stub", n, python=STUB, environment=[f"STUB={script}", f"STUB_LEDGER={ledger}"], **settings)


def app_in(directory: Path, text: str, n: int = 1, **settings: Any) -> dict[str, Any]:
    """A pool of workers of an app of this text."""
    (directory / "made_app.py").write_text(text)
    return pool("made_app", n, path=[str(directory)], **settings)


def executable(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# ---- exec fails


@pytest.mark.parametrize("text, mode, words", [
    (None, 0, "No such file or directory"),
    ("#!/usr/bin/python3\n", 0o644, "Permission denied"),
    ("#!/no/such/interpreter\n", 0o755, "No such file or directory"),
    ("neither a script nor a program\n", 0o755, "Exec format error"),
])
def test_fault_51_a_python_that_cannot_be_executed_fails_the_callers_at_once_with_the_errno(
    start_daemon: StartDaemon, tmp_path: Path, text: str | None, mode: int, words: str
) -> None:
    python = tmp_path / "python3"
    if text is not None:
        executable(python, text, mode)
    daemon = start_daemon({"default": pool("nasty", 1, python=str(python))})
    with daemon.client() as c:
        asked = now()
        error = c.fail_execute("pid", timeout_ms=20000)
        assert now() - asked < 0.5 * SLOW, "it waited for something"
        assert (error.code, error.executed) == ("init_failed", "never")
        assert f"cannot start {python}: {words}" in error.message
        assert (error.cause["reason"], error.cause["phase"]) == ("spawn_failed", "exec")
        assert words in c.call("status")["pools"][0]["last_failure"]["message"]
        eventually(lambda: procfs.children(daemon.pid) == [], "no process is left of a try", 5 * SLOW)


def test_a_pool_recovers_when_its_python_appears(start_daemon: StartDaemon, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    daemon = start_daemon({"default": pool("nasty", 2, python=str(python))})
    with daemon.client() as c:
        assert c.fail_execute("pid").code == "init_failed"
        executable(tmp_path / "new", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n').encode()
        (tmp_path / "new").rename(python)
        wait_workers(c, "idle", 2)
        assert c.execute("echo", 1) == 1
        status = c.call("status")["pools"][0]
        assert (status["state"], status["last_failure"]) == ("serving", None)


# ---- import errors in a loop

LOOPS = """
import os, time
with open({ledger!r}, "a") as file:
    file.write(f"{{time.monotonic()}}\\n")
if not os.path.exists({flag!r}):
    raise RuntimeError("not yet")
from pypool_worker import expose
@expose
def echo(value=None):
    return value
"""
WAITS = [0.0, 0.1, 0.2, 0.4]


def test_fault_52_an_import_error_is_tried_again_with_back_off_and_told_meanwhile(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    ledger, flag = tmp_path / "ledger", tmp_path / "flag"
    daemon = start_daemon({"default": app_in(tmp_path, LOOPS.format(ledger=str(ledger), flag=str(flag)), breaker_failures=0)})
    with daemon.client() as c:
        last, took = {}, []

        def ask() -> bool:
            asked = now()
            error = c.fail_execute("echo")
            took.append(now() - asked)
            assert (error.code, error.executed) == ("init_failed", "never")
            assert "last: RuntimeError: not yet, made_app.py line 6" in error.message
            assert "RuntimeError: not yet" in error.cause["traceback"]
            last.update(error.fields)
            return len(lines(ledger)) > len(WAITS)

        eventually(ask, "it was tried again and again", 20 * SLOW)
        eventually(lambda: ask() and re.search("next try in", last["message"]), "it waits for the next try", 5 * SLOW)
        assert re.search(r"init failed \d+ times since \d\d:\d\d:\d\d, last: ", last["message"])
        assert 1 <= last["retry_after_ms"] <= 1.25 * 800 + 1 or len(lines(ledger)) > len(WAITS) + 1
        assert statistics.median(took) < 0.05 * SLOW and max(took) < 0.3 * SLOW, "a caller had to wait for a pool that is down"
        times = [float(t) for t in lines(ledger)]
        gaps = [b - a for a, b in zip(times, times[1:])]
        print("gaps between tries:", " ".join(f"{gap:.3f}" for gap in gaps))
        for wait, gap in zip(WAITS, gaps):
            assert 0.75 * wait <= gap < 1.25 * wait + 1.0 * SLOW, gaps
        assert "RuntimeError: not yet" in c.call("status")["pools"][0]["last_failure"]["cause"]["traceback"]

        flag.touch()
        eventually(lambda: workers(c, "idle"), "the pool has recovered", 10 * SLOW)
        assert c.execute("echo", 1) == 1
        assert c.call("status")["pools"][0]["last_failure"] is None


def test_fault_52_the_back_off_has_jitter_so_that_pools_do_not_march_in_step(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({f"p{i}": pool("import_error", 1, python="/no/such/python") for i in range(4)})
    with daemon.client() as c:

        def apart() -> bool:
            waits = [int(c.fail_execute("x", pool=f"p{i}").fields["retry_after_ms"]) for i in range(4)]
            return min(waits) > 300 and max(waits) - min(waits) > 20  # all began at the same time

        eventually(apart, "the pools try at different times", 20 * SLOW)


# ---- an init that hangs

HOLDS_THE_GIL = """
import ctypes
def wait_for_licence():
    mutex, libc = ctypes.create_string_buffer(128), ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
wait_for_licence()
"""
WARMS_FOR_EVER = """
import time
def wait_for_licence():
    time.sleep(3600)
"""
IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def wait_for_licence():
    while True:
        time.sleep(3600)
wait_for_licence()
"""


@pytest.mark.parametrize("text, phase, settings", [
    (HOLDS_THE_GIL, "imports", {}),
    (WARMS_FOR_EVER, "warmup", {"warmup": "made_app:wait_for_licence"}),
    (IGNORES_TERM, "imports", {}),
], ids=["imports, in C with the GIL held", "warmup", "imports, TERM ignored"])
def test_fault_53_an_init_that_hangs_is_told_with_its_phase_and_its_stack(
    start_daemon: StartDaemon, tmp_path: Path, text: str, phase: str, settings: dict[str, Any]
) -> None:
    daemon = start_daemon({"default": app_in(tmp_path, text, init_timeout="2s", **settings)}, ready=False)
    with early_client(daemon) as c:
        error = c.fail_execute("anything", timeout_ms=20000)
        assert (error.code, error.executed) == ("init_failed", "never")
        assert (error.fields["phase"], error.cause["reason"]) == (phase, "init_timeout")
        assert f"init was not finished in 2.0 s, in phase {phase}" in error.message
        assert re.search(r"made_app\.py line \d+ in wait_for_licence", error.message)
        assert "in wait_for_licence" in error.cause["stack"]
        assert 1900 <= sum(p["ms"] for p in error.cause["init"]) < 2000 + 2000 * SLOW
        assert "was killed by pypoold (init_timeout, SIG" in error.cause["exit"]
    daemon.wait_ready()


def test_a_warm_up_that_raises_fails_the_init_in_its_phase(start_daemon: StartDaemon, tmp_path: Path) -> None:
    text = "from pypool_worker import expose\n@expose\ndef echo(): pass\ndef warm():\n    raise OSError('no model')\n"
    daemon = start_daemon({"default": app_in(tmp_path, text, warmup="made_app:warm")})
    with daemon.client() as c:
        error = c.fail_execute("echo")
        assert (error.code, error.fields["phase"]) == ("init_failed", "warmup")
        assert "OSError: no model, made_app.py line 5" in error.message


def test_a_worker_tells_the_phases_of_its_init_and_their_milliseconds(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    text = "import time\nfrom pypool_worker import expose\ntime.sleep(0.2)\n@expose\ndef echo(): pass\n"
    text += "def warm():\n    time.sleep(0.1)\n"
    daemon = start_daemon({"default": app_in(tmp_path, text, warmup="made_app:warm")})
    with daemon.client() as c:
        phases = {p["phase"]: p for p in workers(c)[0]["init"]}
        assert list(phases) == ["exec", "interpreter", "library", "imports", "warmup"]
        assert phases["imports"]["module"] == "made_app"
        assert 200 <= phases["imports"]["ms"] < 200 + 1000 * SLOW
        assert 100 <= phases["warmup"]["ms"] < 100 + 1000 * SLOW


# ---- workers that break the handshake


def test_fault_55_no_work_goes_to_a_worker_before_it_is_ready(start_daemon: StartDaemon, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": stub("hello watch ready serve", ledger)}, ready=False)
    with early_client(daemon) as c:
        number = c.start_execute("echo", timeout_ms=20000)
        wait_queued(c, 1)
        wait_workers(c, "initializing", 1)
        assert c.wait(number).value() == "from the stub"
        assert lines(ledger) == ["no call came early", "call echo"]
    daemon.wait_ready()


@pytest.mark.parametrize("script, words", [
    ("hello complain exit_3", "exited with status 3 in phase library; its last words: the stub complains"),
    ("exit_3", "exited with status 3 before it was a worker"),
    ("hello close_calls complain exit_3", "exited with status 3"),
])
def test_fault_55_a_worker_that_dies_before_ready_is_an_init_failure_and_is_sent_no_work(
    start_daemon: StartDaemon, tmp_path: Path, script: str, words: str
) -> None:
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": stub(script, ledger)}, ready=False)
    with early_client(daemon) as c:
        error = c.fail_execute("echo", timeout_ms=20000)
        assert (error.code, error.executed) == ("init_failed", "never")
        assert words in error.message, error.message
        assert lines(ledger) == []
    daemon.wait_ready()


@pytest.mark.parametrize("script, words", [
    ("ready until_killed", "the worker said ready before hello"),
    ("hello hello until_killed", "the worker said hello twice"),
    ("hello_of_protocol_9 until_killed", "the worker speaks protocol 9"),
    ("hello garbage_on_control until_killed", "a control message of the worker is malformed"),
    ("hello unasked_reply until_killed", "the worker answered a call before it was ready"),
])
def test_fault_55_a_worker_that_breaks_the_handshake_is_killed_and_is_sent_no_work(
    start_daemon: StartDaemon, tmp_path: Path, script: str, words: str
) -> None:
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": stub(script, ledger)}, ready=False)
    with early_client(daemon) as c:
        error = c.fail_execute("echo", timeout_ms=20000)
        assert (error.code, error.executed) == ("init_failed", "never")
        assert "was killed by pypoold (protocol, SIGKILL)" in error.message
        assert words in error.message and words in daemon.log()
        assert lines(ledger) == []
    daemon.wait_ready()


@pytest.mark.parametrize("word, words", [
    ("close_control", "the worker closed its control channel"),
    ("too_much_on_control", "the worker sent a control message of over 64 KiB"),
])
def test_fault_42_a_worker_that_cannot_say_ready_any_more_fails_at_once(
    start_daemon: StartDaemon, tmp_path: Path, word: str, words: str
) -> None:
    script = f"hello complain {word} until_killed"
    daemon = start_daemon({"default": stub(script, tmp_path / "ledger", init_timeout="60s")}, ready=False)
    with early_client(daemon) as c:
        began = now()
        error = c.fail_execute("echo", timeout_ms=20000)
        assert now() - began < 5.0 * SLOW
        assert (error.code, error.executed, error.fields["phase"]) == ("init_failed", "never", "library")
        assert f"{words}; it was killed by pypoold (protocol, SIGKILL) in phase library" in error.message
        assert "its last words: the stub complains" in error.message
        assert (error.cause["reason"], error.cause["output"]) == ("protocol", ["the stub complains"])
    daemon.wait_ready()


def test_fault_55_ready_twice_ends_the_worker_and_the_next_one_serves(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": stub("hello ready ready serve|hello ready serve", tmp_path / "ledger")})
    with daemon.client() as c:
        dead = wait_dead(c, 1)
        assert (dead["why"], dead["exit"]) == ("protocol", "was killed by pypoold (protocol, SIGKILL)")
        assert "the worker said ready twice" in daemon.log()
        assert c.execute("echo") == "from the stub"
        assert workers(c)[0]["worker"] == 2


def test_a_worker_that_is_silent_is_killed_at_init_timeout(start_daemon: StartDaemon, tmp_path: Path) -> None:
    script = "complain until_killed"
    daemon = start_daemon({"default": stub(script, tmp_path / "ledger", init_timeout="2s")}, ready=False)
    with early_client(daemon) as c:
        error = c.fail_execute("echo", timeout_ms=20000)
        assert (error.code, error.fields["phase"]) == ("init_failed", "interpreter")
        assert "init was not finished in 2.0 s, in phase interpreter" in error.message
        assert error.cause["output"] == ["the stub complains"]
    daemon.wait_ready()


@pytest.mark.parametrize("word", [
    "reply_to_another", "reply_too_long", "reply_garbage", "send_a_request",
])
def test_fault_37_and_38_a_worker_that_breaks_the_call_protocol_is_killed_and_nothing_of_it_forwarded(
    start_daemon: StartDaemon, tmp_path: Path, word: str
) -> None:
    script = f"hello ready {word} until_killed|hello ready serve"
    daemon = start_daemon({"default": stub(script, tmp_path / "ledger")})
    with daemon.client() as c:
        error = c.fail_execute("echo", timeout_ms=20000)
        assert (error.code, error.executed) == ("worker_protocol", "maybe"), error
        assert wait_dead(c, 1)["why"] == "protocol"
        assert c.execute("echo") == "from the stub"
        assert lines(tmp_path / "ledger") == ["call echo", "call echo"]


@pytest.mark.parametrize("word, why", [("reply_twice", "protocol"), ("reply_and_die", "crashed")])
def test_fault_32_and_37_what_follows_a_full_reply_does_not_take_it_back(
    start_daemon: StartDaemon, tmp_path: Path, word: str, why: str
) -> None:
    script = f"hello ready {word} until_killed|hello ready serve"
    daemon = start_daemon({"default": stub(script, tmp_path / "ledger")})
    with daemon.client() as c:
        number = c.start_execute("echo", timeout_ms=20000)
        assert c.wait(number).value() == "from the stub"
        assert wait_dead(c, 1)["why"] == why
        assert c.execute("echo") == "from the stub"
        assert c.order.count(number) == 1


def test_fault_38_a_reply_that_is_cut_short_by_the_exit_is_no_reply(start_daemon: StartDaemon, tmp_path: Path) -> None:
    script = "hello ready reply_cut_short|hello ready serve"
    daemon = start_daemon({"default": stub(script, tmp_path / "ledger")})
    with daemon.client() as c:
        error = c.fail_execute("echo", timeout_ms=20000)
        assert error.code in ("worker_died", "worker_protocol") and error.executed == "maybe"
        assert c.execute("echo") == "from the stub"


# ---- processes: all reaped, all signalled by pidfd, none leaks a descriptor


def test_fault_56_workers_that_exit_before_anybody_looks_are_all_reaped(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 64, python="/bin/true")}, start_concurrency=64)

    def zombies() -> list[procfs.Process]:
        return [p for p in procfs.processes() if p.parent == daemon.pid and p.state == "Z"]

    with daemon.client() as c:
        error = c.fail_execute("pid")
        assert error.code == "init_failed" and "exited with status 0 before it was a worker" in error.message
        eventually(lambda: int(pool_of(c)["died"]) >= 64, "all of the first have died", 10 * SLOW)
        eventually(lambda: not zombies(), "no zombie", 2 * SLOW)
        counters = pool_of(c)
        assert counters["spawned"] - counters["died"] <= 1


def traced(text: str) -> list[str]:
    """The lines of strace that are system calls."""
    return [line for line in text.splitlines() if "(" in line]


def test_fault_57_workers_are_signalled_by_pidfd_only(start_daemon: StartDaemon, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "kill,tkill,tgkill,pidfd_send_signal"
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # which does not work under ptrace
    daemon = start_daemon(
        {"default": pool("nasty", 2, cancel_grace="100ms")},
        environment={"ASAN_OPTIONS": options.lstrip(":")},
        prefix=["strace", "-D", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", "signal=none"],
    )
    with daemon.client() as c:
        groups = {w["pid"] for w in workers(c)}
        c.fail_execute("sleep", 60, timeout_ms=500)
        c.fail_execute("ignore_term_forever", timeout_ms=500)
        c.fail_execute("crash")
        wait_workers(c, "idle", 2)
        groups |= {w["pid"] for w in workers(c, "dead", "idle")}
    daemon.stop()
    used = traced(trace.read_text())
    assert any("pidfd_send_signal" in line and "SIGUSR1" in line for line in used), used
    assert any("pidfd_send_signal" in line and "SIGKILL" in line for line in used), used
    others = [line for line in used if not line.startswith("pidfd_send_signal")]
    # a group has no pidfd; it is killed while its leader is not reaped, so that its number is its own
    allowed = re.compile(r"kill\(-(\d+), SIG")
    for line in others:
        match = allowed.match(line)
        assert match and int(match[1]) in groups, line


def kinds_of_fds(daemon: Daemon) -> list[str]:
    return sorted(re.sub(r"\[?\d+\]?$", "", target) for target in procfs.fds(daemon.pid).values())


@pytest.mark.parametrize("call, error, times", [
    ("openat", "EMFILE", 1),
    ("pipe2", "EMFILE", 4),  # stdout, stderr, dump, and the report of the child
    ("socketpair", "EMFILE", 2),
    ("memfd_create", "EMFILE", 1),
    ("ftruncate", "ENOSPC", 1),
    ("vfork", "EAGAIN", 1),
    ("pidfd_open", "EMFILE", 1),
])
def test_fault_54_and_61_a_start_that_fails_midway_leaks_nothing_and_live_workers_serve(
    start_daemon: StartDaemon, call: str, error: str, times: int
) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        before, family = kinds_of_fds(daemon), 2
        for which in range(1, times + 1):
            victim = workers(c)[0]
            deaths = int(pool_of(c)["died"])
            with failing(daemon, call, error, which):
                os.kill(victim["pid"], signal.SIGKILL)
                eventually(lambda: int(pool_of(c)["died"]) == deaths + 2, "it and its replacement have died", 10 * SLOW)
                assert c.execute("echo", which) == which, "the other worker serves"
                wait_workers(c, "idle", 2)
            assert workers(c, "dead")[-1]["why"] == "spawn_failed"
            assert len(procfs.children(daemon.pid)) == family
            eventually(lambda: kinds_of_fds(daemon) == before, "the same descriptors as before", 5 * SLOW)
