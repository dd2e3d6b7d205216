"""Workers that die, hang, flood or misbehave: what the caller is told, and that the next caller does not notice."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import APPS, ROOT, SLOW, Daemon, pool
from tests.support.scenes import (
    assert_prompt,
    lines,
    notes,
    now,
    pool_of,
    wait_dead,
    wait_note,
    wait_running,
    wait_workers,
    workers,
)
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def settle(c: Client, n: int) -> None:
    """All workers are back, so that what the test started is all gone at its end."""
    wait_workers(c, "idle", n)


def test_fault_30_a_worker_killed_while_idle_is_replaced_and_no_client_notices(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        victim = workers(c)[0]
        os.kill(victim["pid"], signal.SIGKILL)
        for i in range(50):
            assert c.execute("echo", i) == i
        assert wait_dead(c, victim["worker"])["exit"] == "was killed by signal 9 (SIGKILL) from outside of pypoold"
        settle(c, 2)
        counters = pool_of(c)
        assert (counters["completed"], counters["failed"], counters["spawned"]) == (50, 0, 3)
        assert victim["pid"] not in {w["pid"] for w in workers(c)}


def test_fault_30_a_call_that_a_dying_worker_never_read_runs_on_another(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        (victim,) = workers(c, "idle")
        os.kill(victim["pid"], signal.SIGSTOP)
        call = c.start_execute("echo", "small", meta=True)
        wait_running(c, "echo")
        os.kill(victim["pid"], signal.SIGKILL)
        answer = c.wait(call).value()
        assert answer["value"] == "small" and answer["meta"]["worker"] != victim["worker"]
        settle(c, 1)
        counters = pool_of(c)
        assert (counters["accepted"], counters["completed"]) == (1, 1)


def test_fault_31_a_large_call_that_was_never_read_whole_is_told_never(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        (victim,) = workers(c, "idle")
        os.kill(victim["pid"], signal.SIGSTOP)
        call = c.start_execute("echo", "x" * 100_000)
        wait_running(c, "echo")
        os.kill(victim["pid"], signal.SIGKILL)
        error = c.wait_error(call)
        assert (error.code, error.executed) == ("worker_died", "never")
        assert "before it had read the call" in error.message
        settle(c, 1)


def test_fault_31_a_worker_killed_while_running_is_told_within_50_ms_and_its_call_is_not_run_again(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 2)})
    ledger, took = tmp_path / "ledger", []
    with daemon.client() as c:
        for i in range(5):
            settle(c, 2)
            number = c.start_execute("record", str(ledger), "sleep", 60.0, str(i))
            pid = wait_note(ledger, "begun", str(i))["pid"]
            killed = now()
            os.kill(pid, signal.SIGKILL)
            error = c.wait_error(number)
            took.append(now() - killed)
            assert (error.code, error.executed) == ("worker_died", "maybe")
            assert f"(pid {pid}) was killed by signal 9 (SIGKILL) from outside of pypoold while it ran record for " in error.message
            assert error.cause["signal"] == 9 and error.cause["exit_code"] == -1
            assert c.execute("echo", i) == i, "the other worker serves"
        settle(c, 2)
        assert [n["what"] for n in notes(ledger)] == ["begun"] * 5, "a call was run twice"
    assert_prompt("news of a killed worker", took, median=0.05)


def test_fault_33_sys_exit_in_a_handler_is_an_error_and_its_worker_lives(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        pid = c.execute("pid")
        error = c.fail_execute("sys_exit", 3)
        assert (error.code, error.executed, error.cause["type"]) == ("app_error", "yes", "SystemExit")
        assert c.execute("pid") == pid


@pytest.mark.parametrize("code", [0, 7])
def test_fault_33_os_exit_in_a_handler_is_worker_died_with_its_status(start_daemon: StartDaemon, code: int) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        pid = c.execute("pid")
        error = c.fail_execute("os_exit", code)
        assert (error.code, error.executed) == ("worker_died", "maybe")
        assert f"exited with status {code} while it ran os_exit" in error.message
        assert (error.cause["exit_code"], error.cause["signal"]) == (code, 0)
        assert c.execute("pid") != pid


def test_fault_34_a_crash_is_told_with_its_signal_and_the_stderr_of_this_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        c.execute("print_then", 1)
        error = c.fail_execute("crash", signal.SIGSEGV)
        assert (error.code, error.executed) == ("worker_died", "maybe")
        assert "was killed by signal 11 (SIGSEGV) while it ran crash" in error.message
        assert error.cause["signal"] == signal.SIGSEGV
        tail = error.cause["output"]
        assert "Fatal Python error: Segmentation fault" in error.cause["stack"] and error.cause["reason"] == "crashed"
        assert "while it ran crash for " in error.message and "nasty.py line " in error.message, error.message
        assert " in crash" in error.cause["stack"]
        assert "printed on stderr" not in tail, "that was the call before"
        assert "Fatal Python error: Segmentation fault" in [line["text"] for line in c.call("logs")]
        settle(c, 1)


@pytest.mark.parametrize("target, by", [("swallow_and_sleep", "SIGTERM"), ("ignore_term_forever", "SIGKILL")])
def test_fault_36_a_worker_that_ignores_the_interrupt_gets_term_and_one_that_ignores_term_gets_kill(
    start_daemon: StartDaemon, target: str, by: str
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, cancel_grace="150ms")})
    with daemon.client() as c:
        worker = workers(c)[0]
        assert c.fail_execute(target, timeout_ms=500).code == "deadline_exceeded"
        assert wait_dead(c, worker["worker"])["exit"] == f"was killed by pypoold (deadline, {by})"
        settle(c, 1)


def test_fault_36_a_stopped_worker_is_killed_and_the_loop_never_blocks(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, cancel_grace="200ms")})
    with daemon.client() as c, daemon.client() as other:
        worker = workers(c)[0]
        number = c.start_execute("sleep", 60, timeout_ms=1000)
        wait_running(c, "sleep")
        os.kill(worker["pid"], signal.SIGSTOP)
        sent, took = now(), []
        while not c.replies.get(number) and now() - sent < 5 * SLOW:
            asked = now()
            assert other.call("ping") == "pong"
            took.append(now() - asked)
            if not c.is_silent(0.002):
                break
        error = c.wait_error(number)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")
        assert "it did not show its stack" in error.message
        assert wait_dead(c, worker["worker"])["why"] == "deadline"
        assert c.execute("pid") != worker["pid"]
    assert_prompt("ping beside a stopped worker", took, median=0.02)


def test_fault_36_a_stopped_idle_worker_does_not_keep_the_daemon_from_stopping(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, stop_timeout="300ms")})
    with daemon.client() as c:
        os.kill(workers(c)[0]["pid"], signal.SIGSTOP)
    began = now()
    daemon.stop()
    assert now() - began < 3 * SLOW


def test_fault_40_ten_mib_of_stderr_are_drained_and_the_worker_is_not_wedged(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, log_level="error")
    with daemon.client() as c, daemon.client() as other:
        number = c.start_execute("noisy", 10 << 20)
        took = []
        while c.is_silent(0):
            asked = now()
            assert other.call("ping") == "pong"
            took.append(now() - asked)
        assert c.wait(number).value() == 10 << 20
        kept = c.call("logs", lines=5000)
        assert 100 <= len(kept) <= 1000, "a bounded tail is kept"
        assert {line["text"] for line in kept} == {"x" * 99}
        assert c.execute("echo", 1) == 1
    assert_prompt("ping beside a flood on stderr", took, median=0.05, worst=0.5)


def test_fault_41_print_in_a_handler_goes_to_the_log_and_never_into_the_protocol(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        for i in range(20):
            assert c.execute("print_then", i) == i
        printed = [(line["source"], line["text"]) for line in c.call("logs", lines=500)]
        for wanted in (("stdout", "printed on stdout"), ("stderr", "printed on stderr"), ("stdout", "no newline")):
            assert printed.count(wanted) == 20, wanted
    daemon.wait_log(r'worker\.output .*source=stdout text="printed on stdout"')


def test_a_line_without_its_newline_is_logged_when_the_worker_dies_of_the_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        error = c.fail_execute("print_and_exit", "last words")
        assert error.cause["output"] == ["last words"]
        settle(c, 1)
    daemon.wait_log(r'worker\.output .*text="last words"')


def test_fault_43_death_is_decided_by_the_exit_although_a_grandchild_keeps_the_pipes_open(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": pool("nasty", 1, modules=["recorder"])})
    with daemon.client() as c:
        worker = workers(c)[0]
        grandchild = procfs.process(c.execute("grandchild_holds_pipes"))
        assert grandchild is not None and grandchild.parent == worker["pid"]
        number = c.start_execute("recorder:record", str(ledger), "sleep", 60.0, "held")
        wait_note(ledger, "begun", "held")
        killed = now()
        os.kill(worker["pid"], signal.SIGKILL)
        error = c.wait_error(number)
        took = now() - killed
        assert error.code == "worker_died" and took < 0.25 * SLOW, took
        assert c.execute("pid") != worker["pid"]
        assert wait_dead(c, worker["worker"])["exit"] == "was killed by signal 9 (SIGKILL) from outside of pypoold"
    family = grandchild
    eventually(lambda: not family.is_alive(), "what the worker had started is gone too", 2 * SLOW)


def test_fault_44_stdio_made_non_blocking_costs_no_worker_and_no_line_that_is_not_counted(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, log_level="info")
    n = 10_000
    with daemon.client() as c:
        before = pool_of(c)["spawned"]
        pid = c.execute("pid")
        for _ in range(3):
            c.execute("unblock_stdio")
            assert c.execute("number_lines", n) == n
        kept = [line["text"].split()[1] for line in c.call("logs", lines=5000)]
        assert kept == [str(i) for i in range(n - len(kept), n)] and len(kept) >= 100
        assert c.execute("pid") == pid and pool_of(c)["spawned"] == before
        logged = len(re.findall(r'worker\.output .* text="line \d+ x{80}"( call=\d+)?$', daemon.log(), re.MULTILINE))
        assert logged > 0 and logged + c.call("status")["log_dropped"] == 3 * n


def test_fault_49_a_handler_that_calls_its_own_full_pool_fails_in_time(start_daemon: StartDaemon) -> None:
    """Without a timeout of its own: what bounds it is the queue_timeout of the pool."""
    settings = pool("calls_back", 2, queue_timeout="1s")
    daemon = start_daemon({"default": {**settings, "path": [str(APPS), str(ROOT / "client" / "python")]}})
    path = str(daemon.socket)
    with daemon.client() as c:
        assert c.execute("descend", path, 1) == ["descend"], "a second worker is free"
        began = now()
        numbers = [c.start_execute("descend", path, 9) for _ in range(6)]
        wait_running(c, "descend", 2)
        replies = [c.wait(number) for number in numbers]
        answers = [reply.result for reply in replies if reply.error is None]
        assert answers, "one of them, at least, ran and was told by the handler that it called"
        for answer in answers:
            assert answer[:2] == ["queue_timeout", "never"]
            assert re.search(r"[12] of 2 busy \(pid \d+: descend for ", answer[2]), answer  # one has ended at the same moment
        assert all(reply.error["code"] == "queue_timeout" for reply in replies if reply.error is not None)
        assert now() - began < 6.0 * SLOW
        assert c.call("queue") == []
        assert c.execute("descend", path, 0) == [] and pool_of(c)["spawned"] == 2


def test_fault_50_what_threads_of_a_handler_write_is_not_mixed(start_daemon: StartDaemon) -> None:
    """Pings are answered meanwhile, by another thread of the worker."""
    letters, n = "abc", 20
    daemon = start_daemon({"default": pool("nasty", 1, ping_interval="100ms")})  # two that are missed end it
    with daemon.client() as c:
        for _ in range(20):
            assert c.execute("write_in_threads", letters, n) == [letter * 100_000 for letter in letters]
            kept = [(line["source"], line["text"]) for line in c.call("logs", lines=2 * n * len(letters))]
            assert Counter(kept) == {(source, letter * 40): n for source in ("stdout", "stderr") for letter in letters}
        assert pool_of(c)["spawned"] == 1


def test_a_grandchild_of_a_worker_that_lives_is_left_alone(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        grandchild = procfs.process(c.execute("grandchild_holds_pipes"))
        for i in range(10):
            assert c.execute("echo", i) == i
        assert grandchild is not None and grandchild.is_alive()


def test_a_worker_that_dies_again_and_again_loses_only_the_calls_that_it_ran(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 2, poison_kills=0)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        numbers = {}
        for i in range(30):
            if i % 10 == 5:
                numbers[i] = c.start_execute("os_exit", 1, timeout_ms=20000)
            else:
                numbers[i] = c.start_execute("append_line", str(ledger), str(i), timeout_ms=20000)
        for i, number in numbers.items():
            reply = c.wait(number)
            if i % 10 == 5:
                assert reply.error["code"] == "worker_died"
            else:
                assert reply.error is None
        assert sorted(map(int, lines(ledger))) == [i for i in range(30) if i % 10 != 5], "each exactly once"
        settle(c, 2)
