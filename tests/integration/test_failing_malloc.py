"""Fault 98: single allocations of a real daemon fail, chosen by chance. PYPOOL_MALLOC_FAULTS says how many runs (20),
PYPOOL_SEED which ones."""

from __future__ import annotations

import operator
import os
import random
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.client import CallError, Client, ConnectionEnded
from tests.support.daemon import BUILD, ROOT, SANITIZED, SLOW, Daemon, DaemonFailed, pool
from tests.support.waiting import eventually

RUNS = int(os.environ.get("PYPOOL_MALLOC_FAULTS", "20"))
SEED = int(os.environ.get("PYPOOL_SEED") or random.SystemRandom().randrange(1 << 32))
# one allocation is missing, so one thing may go wrong
Lost = (ConnectionEnded, ConnectionError)

pytestmark = pytest.mark.skipif(SANITIZED or "cov" in BUILD.name, reason="sanitizers and gcov allocate on their own")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    made = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-g", "-shared", "-fPIC", "-o", str(made),
                    str(ROOT / "tests" / "faults" / "failing_malloc.c")], check=True)
    return made


def start(start_daemon: Callable[..., Daemon], library: Path, n: int, count: Path | None = None) -> Daemon:
    environment = {"LD_PRELOAD": str(library), "FAILING_MALLOC": str(n)}
    if count:
        environment["FAILING_MALLOC_COUNT"] = str(count)
    return start_daemon({"default": pool("nasty", 2), "other": pool("nasty", 1)}, ready=False, environment=environment)


def expect(c: Client, number: int, check: Callable[[object], bool], *codes: str) -> bool:
    """The right answer or the right error: true; `overloaded`: false."""
    try:
        value = c.wait(number).value()
    except CallError as e:
        assert e.code in (*codes, "overloaded"), e
        assert e.message and e.executed in ("never", "maybe", "yes")
        return e.code != "overloaded"
    assert not codes and check(value), f"a wrong answer: {value!r:.200}"
    return True


def echoes(c: Client) -> None:
    """Several sizes at once: in a blob of the standard size and not, copied and not, within one frame and not."""
    values = [f"{i}-" + "x" * size for i, size in enumerate((0, 10, 3000, 20_000, 200_000, 1_000_000))]
    numbers = [c.start_execute("echo", value) for value in values]
    for number, value in zip(numbers, values):
        expect(c, number, partial(operator.eq, value))


def trouble(c: Client) -> None:
    """What is answered with an error, and needs memory for it."""
    expect(c, c.start_execute("unserializable"), bool, "unserializable")
    expect(c, c.start_execute("nobody"), bool, "unknown_target")
    expect(c, c.start("nothing"), bool, "unknown_method")
    expect(c, c.start_execute("echo", pool="none"), bool, "unknown_pool")
    expect(c, c.start_execute("sleep", 5, timeout_ms=30), bool, "deadline_exceeded")
    expect(c, c.start_execute("crash", 9, pool="other"), bool, "worker_died")
    number = c.start_execute("sleep", 5)
    expect(c, c.start("cancel", id=number), lambda got: got in (True, False))
    expect(c, number, bool, "cancelled")


def leases(c: Client) -> None:
    answer = c.wait(c.start("checkout", type="anonymous", timeout_ms=10000))
    if answer.error is not None:
        assert CallError(answer.error).code == "overloaded", answer
        return
    lease = answer.result["lease"]
    expect(c, c.start_execute("echo", 1, lease=lease), lambda got: got == 1)
    expect(c, c.start("checkin", lease=lease), lambda got: got is True)


def looks(c: Client) -> None:
    for method in ("ping", "status", "pools", "workers", "clients", "queue", "logs"):
        expect(c, c.start(method), lambda got: isinstance(got, (str, dict, list)))
    answer = c.wait(c.start("worker.stack", worker=1))
    if answer.error is None:
        assert answer.result["worker"] == 1
    else:
        assert CallError(answer.error).code in ("bad_request", "overloaded"), answer  # it is dead, or there is no memory


def load(daemon: Daemon) -> None:
    """Some of everything, over a connection each; one that is lost must have been dropped for want of memory."""
    for part in (echoes, trouble, leases, looks, echoes):
        try:
            with daemon.client(hello=part is not looks) as c:
                part(c)
        except Lost:
            if is_over(daemon):
                return
            assert "client.dropped" in daemon.log(), "a connection was lost without a word"


def is_over(daemon: Daemon) -> bool:
    """Whether the daemon has ended, or is just doing so."""
    try:
        daemon.process.wait(2.0 * SLOW)
    except subprocess.TimeoutExpired:
        return False
    return True


def end(daemon: Daemon) -> None:
    """Whatever happened: the daemon is whole and stops as always, or it has ended as documented. No worker is left."""
    family = procfs.descendants(daemon.pid)
    try:
        daemon.check_quiet()
        daemon.signal(signal.SIGTERM)
    except (*Lost, AssertionError, FileNotFoundError):
        if not is_over(daemon):
            raise
    status = daemon.wait()
    log = daemon.log()
    if status == -signal.SIGABRT:
        last_words = log.count("mem.exhausted") + log.count(": lexer.l:")  # libconfuse's lexer has an assertion
        assert last_words == 1, "an abort without its line in the log"
    else:
        assert status == 0, f"exit status {status}"
        assert "mem.exhausted" not in log
    daemon.check_gone(family)
    daemon.check_log()


def one_run(daemon: Daemon) -> None:
    try:
        daemon.wait_ready()
    except DaemonFailed:
        status = daemon.process.poll()
        if status is not None and status > 0:  # an error like any other, from a library that reports it
            said = [line for line in daemon.log().splitlines() if "failing_malloc" not in line]
            assert status < 128 and said, f"ended with {status} and no word why"
            return
        assert status is not None, "neither ready nor over"
    else:
        load(daemon)
    end(daemon)


def counted(start_daemon: Callable[..., Daemon], library: Path, file: Path) -> int:
    """How many allocations a run has when none fails."""
    daemon = start(start_daemon, library, 0, file)
    one_run(daemon)
    text: str = eventually(lambda: file.read_text() if file.exists() else "", "the count", 5 * SLOW)
    return int(text)


def test_fault_98_a_failing_allocation_is_overloaded_or_a_clean_abort(
    start_daemon: Callable[..., Daemon], library: Path, tmp_path: Path
) -> None:
    total = counted(start_daemon, library, tmp_path / "count")
    chosen = random.Random(SEED)
    print(f"{total} allocations, seed {SEED}: PYPOOL_SEED={SEED} runs the same again")
    assert total > 300
    for _ in range(RUNS):
        n = chosen.randint(1, total)
        daemon = start(start_daemon, library, n)
        try:
            one_run(daemon)
        except BaseException as e:
            raise AssertionError(f"allocation {n} of {total} (PYPOOL_SEED={SEED}): {e}\n{daemon.log_end(40)}") from e
        daemon.discard()
