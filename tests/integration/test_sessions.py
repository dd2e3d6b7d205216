"""Sessions with a real daemon and real workers: affinity, values, loss, close."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import CallError, Client
from tests.support.daemon import Daemon, pool
from tests.support.daemon_life import check_end
from tests.support.scenes import lines, wait_queued, wait_running, wait_workers, workers
from tests.support.users import ALICE, OPEN, client_of, needs_root
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
KILLS = int(os.environ.get("PYPOOL_SESSION_KILLS", "100"))


def start(start_daemon: StartDaemon, n: int = 2, **settings: Any) -> Daemon:
    return start_daemon({"default": pool("sessions", n, **settings)})


def test_the_calls_of_a_session_run_in_one_worker(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 3)
    with daemon.client() as c, daemon.client() as other:
        pids = {name: c.execute("here", session=name)[0] for name in ("a", "b", "c", "d")}
        assert len(set(pids.values())) == 2, "the reserve was not kept, or sessions were not spread"
        for n in range(2, 6):
            for name, pid in pids.items():
                assert (other if n % 2 else c).execute("here", session=name) == [pid, n]


def test_fault_63_first_calls_at_once_land_on_one_worker_in_order(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 4)
    with daemon.client() as c:
        numbers = [c.start_execute("bump", session="s") for _ in range(50)]
        assert [c.wait(number).value() for number in numbers] == list(range(1, 51))


def test_a_reply_tells_where_it_ran(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        got = c.call("execute", target="here", session="s", meta=True)
        assert got["meta"]["session"] == "s" and got["meta"]["generation"] == 1
        assert got["meta"]["pid"] == got["value"][0]
        assert "session" not in c.call("execute", target="pid", meta=True)["meta"]


def test_values_are_committed_with_the_reply_or_not_at_all(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, affinity="prefer", breaker_failures=0, poison_kills=0)
    with daemon.client() as c:
        assert c.execute("bump", session="s") == 1
        assert c.call("session.get", session="s") == {"first": 1, "second": 1}
        assert c.fail("execute", target="fail_after_writing", session="s").code == "app_error"
        assert c.fail("execute", target="sleep_after_writing", args=[30], session="s", timeout_ms=100).code == (
            "deadline_exceeded"
        )
        assert c.fail("execute", target="die_after_writing", session="s").code == "worker_died"
        number = c.start_execute("sleep_after_writing", 30, session="s")
        wait_running(c, "sleep_after_writing")
        assert c.call("cancel", id=number) is True
        assert c.wait(number).error["code"] == "cancelled"
        assert c.call("session.get", session="s") == {"first": 1, "second": 1}
        assert c.execute("bump", session="s") == 2
        assert [c.execute("append", i, session="s") for i in range(3)] == [1, 2, 3]
        assert c.call("session.get", session="s", key="list") == [0, 1, 2]


def test_put_get_delete_and_list(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        assert c.fail("session.get", session="s").code == "session_not_found"
        assert c.fail("session.put", session="s", values={"a": 1}, open=False).code == "session_not_found"
        assert c.call("session.put", session="s", values={"a": 1, "b": [1, {"x": None}], "first": 41}) is True
        assert c.call("session.get", session="s", key="b") == [1, {"x": None}]
        assert c.call("session.get", session="s", key="nothing") is None
        assert c.execute("bump", session="s") == 42
        assert c.execute("read", session="s") == {"a": 1, "b": [1, {"x": None}], "first": 42, "second": 42}
        assert c.call("session.delete", session="s", keys=["a", "nothing"]) == 1
        assert sorted(c.execute("read", session="s")) == ["b", "first", "second"]
        [listed] = c.call("session.list")
        assert (listed["session"], listed["state"], listed["keys"], listed["waiting"]) == ("s", "open", 3, 0)
        assert listed["worker"] in {w["worker"] for w in workers(c)}
        assert 0 < listed["expires_ms"] <= 3600_000
        bad_values: list[dict[str, Any]] = [{"values": 1}, {"values": {1: 2}}, {"values": {"": 1}}, {"values": {"k" * 256: 1}}, {}]
        for bad in bad_values:
            error = c.fail("session.put", session="s", **bad)
            assert (error.code, error.executed) == ("bad_request", "never"), error
        assert c.fail("session.delete", session="s", keys=[1]).code == "bad_request"


def test_a_put_waits_for_the_call_that_runs(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        call = c.start_execute("bump", 0.3, session="s")
        put = c.start("session.put", session="s", values={"second": "put"})
        after = c.start_execute("read", session="s")
        assert c.wait(call).value() == 1
        assert c.wait(put).value() is True
        assert c.wait(after).value() == {"first": 1, "second": "put"}
        assert c.order.index(call) < c.order.index(put) < c.order.index(after)


def test_too_much_is_refused_and_says_how_much(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, session_max_bytes="4K", max_sessions=2)
    with daemon.client() as c:
        c.execute("bump", session="s")
        error = c.fail("execute", target="write", args=["big", "x" * 5000], session="s")
        assert (error.code, error.executed) == ("session_full", "yes")
        assert "session_max_bytes is 4096" in error.message and error.fields["session"] == "s"
        error = c.fail("session.put", session="s", values={"big": "x" * 5000})
        assert (error.code, error.executed) == ("session_full", "never")
        assert c.execute("read", session="s") == {"first": 1, "second": 1}
        error = c.fail("session.put", session="s", values={str(i): 0 for i in range(1100)})
        assert error.code == "session_full" and "1024" in error.message
        c.execute("bump", session="t")
        error = c.fail("execute", target="bump", session="u")
        assert (error.code, error.executed) == ("quota", "never") and "max_sessions is 2" in error.message


def test_fault_62_a_strict_session_is_lost_with_its_worker(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c, daemon.client() as other:
        c.execute("bump", session="s")
        running = c.start_execute("sleep", 30, session="s")
        [entry] = wait_running(c, "sleep")
        waiting = [other.start_execute("bump", session="s") for _ in range(3)]
        wait_queued(c, 3)
        [worker] = [w for w in workers(c) if w["worker"] == entry["worker"]]
        os.kill(worker["pid"], signal.SIGKILL)
        error = CallError(c.wait(running).error)
        assert (error.code, error.executed, error.fields["session"]) == ("session_lost", "maybe", "s")
        assert "SIGKILL" in error.message and error.cause["signal"] == 9
        for number in waiting:
            error = CallError(other.wait(number).error)
            assert (error.code, error.executed) == ("session_lost", "never") and "SIGKILL" in error.message
        error = c.fail("execute", target="bump", session="s")
        assert (error.code, error.executed) == ("session_lost", "never")
        assert c.call("session.list")[0]["state"] == "lost"
        assert c.call("session.get", session="s") == {"first": 1, "second": 1}
        assert c.call("session.open", session="s")["opened"] is True
        assert c.execute("bump", session="s") == 2, "its values were not kept"
        assert c.call("session.open", session="s", reset=True)["opened"] is False
        assert c.execute("bump", session="s") == 1


def test_a_call_that_waits_in_its_session_can_be_explained(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 2)
    with daemon.client() as c, daemon.client() as other:
        running = c.start_execute("sleep", 30, session="a")
        [entry] = wait_running(c, "sleep")
        waiting = [c.start_execute("pid", session="a", queue_timeout_ms=1500) for _ in range(3)]
        beside = c.start_execute("pid", session="b")  # bound to the same worker: the other is the reserve
        wait_queued(other, 4)
        queued = {r["id"]: r["call"] for r in other.call("queue") if r["state"] == "queued"}
        for ahead, number in enumerate(waiting, start=1):
            told = other.call("why", call=queued[number])
            assert (told["state"], told["ahead"], told["session"]) == ("queued", ahead, "a")
            assert [w["worker"] for w in told["workers"]] == [entry["worker"]]
        told = other.call("why", call=queued[beside])
        assert told["session"] == "b" and [w["worker"] for w in told["workers"]] == [entry["worker"]]
        error = CallError(c.wait(waiting[0]).error)
        assert (error.code, error.executed) == ("queue_timeout", "never")
        assert f'session "a" is bound to worker {entry["worker"]}' in error.message and "sleep for" in error.message
        assert c.call("cancel", id=running) is True
        assert isinstance(c.wait(beside).value(), int)


def test_fault_67_the_reserve_is_for_calls_without_a_session(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 2)
    with daemon.client() as c:
        holder = c.start_execute("sleep", 2, session="a")
        wait_running(c, "sleep")
        assert isinstance(c.execute("pid"), int)
        error = c.fail("execute", target="pid", session="b", queue_timeout_ms=200)
        assert (error.code, error.executed) == ("queue_timeout", "never")
        assert c.call("cancel", id=holder)


def test_fault_64_a_session_ends_when_it_is_not_used(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start(start_daemon, session_ttl="1s")
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        c.execute("write", "ledger", str(ledger), session="s")
        assert c.execute("bump", session="s") == 1
        pid = c.execute("here", session="s")[0]
        eventually(lambda: bool(c.call("session.list") == []), "the session is gone")
        eventually(lambda: lines(ledger) == [f"s {pid} 1"], "its hook has run in its worker")
        assert c.fail("execute", target="bump", session="s", open=False).code == "session_not_found"
        assert c.execute("bump", session="s") == 1


def test_close_waits_for_what_was_asked_before(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start(start_daemon)
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        c.execute("write", "ledger", str(ledger), session="s")
        numbers = [c.start_execute("bump", 0.05, session="s") for _ in range(4)]
        assert c.call("session.close", session="s") is True
        assert c.call("session.close", session="s") is False
        assert c.execute("read", session="s") == {}, "a closed name is a new session"
        assert [c.wait(n).value() for n in numbers] == [1, 2, 3, 4]
        eventually(lambda: [line.split()[2] for line in lines(ledger)] == ["4"], "its hook has run once, at its end")


def test_a_session_lease_is_exclusive(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c, daemon.client() as other:
        pid = c.execute("here", session="s")[0]
        lease = c.call("checkout", type="session", session="s")
        assert lease["pid"] == pid
        assert c.execute("bump", session="s") == 1
        assert c.execute("bump", lease=lease["lease"]) == 2
        error = other.fail("execute", target="bump", session="s")
        assert (error.code, error.executed) == ("session_busy", "never")
        assert other.fail("session.close", session="s").code == "session_busy"
        assert other.fail("checkout", type="session", session="s").code == "session_busy"
        assert c.fail("checkout", type="session", session="s").code == "session_busy"
        [shown] = other.call("leases")
        assert (shown["lease"], shown["session"], shown["pid"]) == (lease["lease"], "s", pid)
        [shown] = other.call("sessions")
        assert shown["leased"] is True and shown["uid"] == os.getuid()
        assert c.call("checkin", lease=lease["lease"]) is True
        assert other.execute("bump", session="s") == 3


@pytest.mark.parametrize(
    ("params", "code", "told"),
    [
        ({"type": "session"}, "bad_request", "needs session"),
        ({"type": "anonymous", "session": "s"}, "bad_request", "anonymous"),
        ({"type": "persistent"}, "invalid_checkout_type", '"anonymous", "session"'),
    ],
)
def test_checkouts_that_are_refused(start_daemon: StartDaemon, params: dict[str, Any], code: str, told: str) -> None:
    daemon = start(start_daemon, 1)
    with daemon.client() as c:
        error = c.fail("checkout", **params)
        assert (error.code, error.executed) == (code, "never") and told in error.message
        assert c.call("session.list") == []


@pytest.mark.parametrize(
    ("method", "params", "code", "told"),
    [
        ("session.open", {}, "bad_request", "session is missing"),
        ("session.close", {"session": "s", "pool": "nowhere"}, "unknown_pool", "there are: default"),
        ("session.get", {}, "bad_request", "session is missing"),
        ("session.put", {"session": "s", "values": []}, "bad_request", "got array"),
        ("session.delete", {"session": "s"}, "bad_request", "needs keys"),
        ("session.delete", {"session": "s", "keys": ["a"]}, "session_not_found", 'no session "s"'),
        ("session.list", {"pool": "nowhere"}, "unknown_pool", "there are: default"),
        ("sessions", {"pool": "nowhere"}, "unknown_pool", "there are: default"),
        ("leases", {"pool": "nowhere"}, "unknown_pool", "there are: default"),
        ("execute", {"target": "pid", "open": False}, "bad_request", "needs session"),
    ],
)
def test_questions_that_are_refused(
    start_daemon: StartDaemon, method: str, params: dict[str, Any], code: str, told: str
) -> None:
    daemon = start(start_daemon, 1)
    with daemon.client() as c:
        error = c.fail(method, **params)
        assert (error.code, error.executed) == (code, "never") and told in error.message
        assert c.call("session.list") == [] and c.call("leases") == []


def test_a_lease_and_a_session_that_do_not_belong_together(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 3)
    with daemon.client() as c:
        plain = c.call("checkout", type="anonymous")["lease"]
        error = c.fail("execute", target="pid", lease=plain, session="s")
        assert error.code == "bad_request" and "of no session" in error.message
        leased = c.call("checkout", type="session", session="s")["lease"]
        error = c.fail("execute", target="pid", lease=leased, session="t")
        assert error.code == "bad_request" and "of session s" in error.message
        assert c.execute("bump", lease=leased, session="s") == 1
        assert c.call("session.put", session="s", values={"first": 7}) is True
        assert c.execute("bump", lease=leased) == 8
        assert len(c.call("session.list")) == 1


def test_a_session_with_calls_is_not_reset_and_none_is_opened_at_the_end(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 2)
    with daemon.client() as c, daemon.client() as other:
        number = c.start_execute("sleep", 1, session="s")
        wait_running(c, "sleep")
        error = other.fail("session.open", session="s", reset=True)
        assert (error.code, error.executed) == ("session_busy", "never") and "wait or run" in error.message
        daemon.signal(signal.SIGTERM)
        daemon.wait_log(r"daemon\.drain")
        error = other.fail("execute", target="pid", session="new")
        assert (error.code, error.executed) == ("draining", "never")
        assert c.wait(number).value() is None
    check_end(daemon, 0)


def test_a_worker_that_did_not_listen_is_told_later_what_to_forget(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 1, session_reserve=0)
    with daemon.client() as c:
        for n in range(1500):
            c.execute("write", "a", n, session=f"s{n}")
        pid = c.execute("pid")
        assert c.execute("copies") == 1500
        os.kill(pid, signal.SIGSTOP)
        for n in range(1500):
            assert c.call("session.close", session=f"s{n}") is True
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: bool(c.execute("copies") == 0), "the copies are gone")


@needs_root
def test_fault_65_another_user_has_sessions_of_its_own(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("sessions", 2)}, **OPEN)
    with daemon.client() as c, client_of(daemon, ALICE) as stranger:
        c.execute("bump", session="s")
        assert stranger.fail("session.get", session="s").code == "session_not_found"
        assert stranger.fail("execute", target="bump", session="s", open=False).code == "session_not_found"
        assert stranger.execute("bump", session="s") == 1
        assert len(stranger.call("session.list")) == 1
        assert len(c.call("sessions")) == 2


def test_a_session_that_prefers_its_worker_goes_on_in_another(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 2, affinity="prefer")
    with daemon.client() as c:
        for n in range(1, 6):
            assert c.execute("bump", session="s") == n
        pid = c.execute("here", session="s")[0]
        os.kill(pid, signal.SIGKILL)
        assert c.execute("bump", session="s") == 6
        assert c.execute("here", session="s")[0] != pid


def begin_stubborn(c: Client, ledger: Path, end: Path) -> dict[str, Any]:
    """A call of session s that is cancelled, and goes on until `end` exists."""
    number = c.start_execute("stubborn", str(ledger), str(end), session="s")
    [entry] = wait_running(c, "stubborn")
    eventually(lambda: ledger.exists() and lines(ledger), "its handler begins")
    assert c.call("cancel", id=number) is True
    error = CallError(c.wait(number).error)
    assert (error.code, error.executed) == ("cancelled", "maybe")
    return entry


def test_a_call_waits_for_an_answered_one_of_its_session_that_goes_on(start_daemon: StartDaemon, tmp_path: Path) -> None:
    ledger, end = tmp_path / "ledger", tmp_path / "end"
    daemon = start(start_daemon, 3, affinity="prefer", cancel_grace="60s")
    with daemon.client() as c, daemon.client() as other:
        worker = begin_stubborn(c, ledger, end)["worker"]
        after = other.start_execute("mark", str(ledger), "after", session="s")
        wait_queued(c, 1)
        [call] = [r["call"] for r in c.call("queue") if r["state"] == "queued"]
        told = c.call("why", call=call)
        assert told["lingers"] == worker and told["ahead"] == 0
        assert [(w["worker"], w["answered"]) for w in told["workers"]] == [(worker, True)]
        assert f"worker {worker}, which still runs a call of that session" in daemon.ctl("why", str(call)).stdout
        error = c.fail("execute", target="pid", session="s", queue_timeout_ms=100)
        assert (error.code, error.executed) == ("queue_timeout", "never")
        assert f"worker {worker} (pid" in error.message and "still runs a call of its session" in error.message
        assert isinstance(c.execute("pid", session="t"), int), "another session was held up"
        assert c.call("session.put", session="u", values={"a": 1}) is True
        assert set(lines(ledger)) == {"stubborn"}
        end.touch()
        assert other.wait(after).value() is None
        assert lines(ledger).index("after") == len(lines(ledger)) - 1


def test_a_lost_session_that_is_opened_again_waits_for_its_last_call(start_daemon: StartDaemon, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    daemon = start(start_daemon, 3, cancel_grace="50ms")
    with daemon.client() as c:
        begin_stubborn(c, ledger, tmp_path / "never")
        eventually(lambda: bool(c.call("session.list")[0]["state"] == "lost"), "the session is lost")
        assert c.call("session.open", session="s")["opened"] is True
        c.execute("mark", str(ledger), "after", session="s")
        assert lines(ledger).index("after") == len(lines(ledger)) - 1
        wait_workers(c, "idle", 3)
        assert lines(ledger).index("after") == len(lines(ledger)) - 1, "the worker of before went on"


def test_fault_69_a_worker_that_is_due_serves_its_sessions_first(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 1, max_requests=5, drain_timeout="60s")
    with daemon.client() as c:
        pid = c.execute("here", session="s")[0]
        for _ in range(10):
            assert c.execute("here", session="s")[0] == pid
        [old] = wait_workers(c, "draining", 1)
        assert old["pid"] == pid and c.execute("pid") != pid
        assert c.execute("here", session="s")[0] == pid
        assert c.call("session.close", session="s")
        eventually(lambda: not [w for w in workers(c) if w["pid"] == pid], "it leaves when its sessions are closed")


class Bumper(threading.Thread):
    """One client that counts in a session of its own, and what it was promised."""

    def __init__(self, daemon: Daemon, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.daemon_socket = daemon.socket
        self.stop = stop
        self.promised = 0  # the last number that a reply confirmed
        self.calls = self.lost = 0
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.daemon_socket) as c:
                while not self.stop.is_set():
                    self.count(c)
                    self.look(c)
        except BaseException as trouble:
            self.trouble = trouble

    def count(self, c: Client) -> None:
        self.calls += 1
        try:
            n = c.execute("bump", random.random() * 0.004, session=self.name)
        except CallError as error:
            assert error.code == "worker_died", error
            self.lost += 1
            return
        assert n == self.promised + 1, f"{n} after {self.promised}: a committed write was lost, or a lost one kept"
        self.promised = n

    def look(self, c: Client) -> None:
        values = c.call("session.get", session=self.name) if self.promised else {}
        assert values.get("first") == values.get("second"), f"half of a handler's writes: {values}"
        assert values.get("first", 0) == self.promised


def test_no_kill_shows_half_of_a_handler_s_writes_or_loses_a_committed_one(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 4, affinity="prefer", breaker_failures=0, poison_kills=0, ping_interval="0")
    stop = threading.Event()
    bumpers = [Bumper(daemon, f"s{i}", stop) for i in range(6)]
    for bumper in bumpers:
        bumper.start()
    killed: set[int] = set()
    try:
        with daemon.client() as c:
            while len(killed) < KILLS and not any(b.trouble for b in bumpers):
                serving = [w["pid"] for w in workers(c, "idle", "busy") if w["calls"] and w["pid"] not in killed]
                if serving:
                    victim = random.choice(serving)
                    killed.add(victim)
                    os.kill(victim, signal.SIGKILL)
    finally:
        stop.set()
        for bumper in bumpers:
            bumper.join()
    for bumper in bumpers:
        if bumper.trouble:
            raise bumper.trouble
    assert len(killed) >= KILLS
    lost = sum(b.lost for b in bumpers)
    print(f"{len(killed)} kills, {sum(b.calls for b in bumpers)} calls, {lost} of them died with their workers")
    assert lost > 0, "no kill met a call"
    with daemon.client() as c:
        for bumper in bumpers:
            assert c.call("session.get", session=bumper.name, key="first") in (bumper.promised, None)
        wait_workers(c, "idle", 4, timeout=30)


def test_why_tells_of_calls_that_wait_in_their_session_or_for_its_worker(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, 1)
    with daemon.client() as c, daemon.client() as other:
        c.start("execute", target="sleep", args=[60], session="a")
        wait_running(other, "sleep")
        for name in ("a", "a", "b"):
            c.start_execute("bump", session=name)
        wait_queued(other, 3)
        queue = other.call("queue")
        told = [other.call("why", call=call["call"]) for call in queue if call["state"] == "queued"]
        assert [t["ahead"] for t in told] == [1, 2, 0] and [t["ahead_own"] for t in told] == [1, 2, 0]
        assert other.call("pools")[0]["queued"] == 3 and other.call("why", pool="default")["queued"] == 3


def test_hooks_keep_up_with_those_who_open_and_close_sessions(start_daemon: StartDaemon) -> None:
    """A session counts until its hook has run: hooks that waited behind all calls would fill max_sessions."""
    daemon = start(start_daemon, max_sessions=32)
    trouble: list[BaseException] = []

    def open_and_close(number: int) -> None:
        try:
            with daemon.client() as c:
                for i in range(150):
                    c.execute("bump", session=f"{number}.{i}")
                    c.call("session.close", session=f"{number}.{i}")
        except BaseException as e:
            trouble.append(e)

    callers = [threading.Thread(target=open_and_close, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert trouble == []


def test_the_hook_of_a_session_that_is_being_closed_runs_at_a_stop_too(start_daemon: StartDaemon, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    daemon = start(start_daemon, 1)
    with daemon.client() as c:
        c.execute("write", "ledger", str(ledger), session="s")
        c.start_execute("bump", 0.5, session="s")
        wait_running(c, "bump")
        assert c.call("session.close", session="s")
        daemon.signal(signal.SIGTERM)
        daemon.wait()
    assert [line.split()[2] for line in lines(ledger)] == ["1"]
