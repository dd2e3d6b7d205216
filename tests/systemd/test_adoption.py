"""A daemon that is killed loses neither its workers nor their sessions: the next one goes on with them."""

from __future__ import annotations

import os
import random
import signal
import threading

from tests.support.client import CallError, Client, ConnectionEnded
from tests.support.daemon import SLOW
from tests.support.waiting import eventually
from tests.systemd.crashing import RATE, crash, files_of, pids, wait_idle, wait_stored, workers
from tests.systemd.machine import must
from tests.systemd.service import Service, installed_pool

KILLS = int(os.environ.get("PYPOOL_DAEMON_KILLS", "10"))
def test_idle_workers_live_on(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 2, start="exec"), "forks": installed_pool("warm", 2, start="fork")})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        before = pids(c)
        ids = set(workers(c))
    crash(service)
    with service.client() as c:
        wait_idle(c, 4)
        assert pids(c) == before and set(workers(c)) == ids
        assert c.execute("pid") in before
        assert c.execute("born", pool="forks")
        told = c.call("pools", pool="default")[0]
        assert (told["adopted"], told["spawned"]) == (2, 0)
        assert all(w["adopted"] for w in workers(c).values())
        moves = c.call("why", worker=min(ids))["history"]
        assert [move["to"] for move in moves][:2] == ["initializing", "idle"]
    text = must("pypoolctl", "--socket", str(service.socket), "why", "worker", str(min(ids)))
    assert "started by a daemon before this one" in text
    metrics = must("pypoolctl", "--socket", str(service.socket), "metrics")
    assert 'pypool_worker_adoptions_total{pool="forks"} 2' in metrics.splitlines()
    assert "workers=4" in service.journal.messages("PYPOOL_EVENT=daemon.adopted")
    wait_stored(service, files_of(4))
    crash(service)
    with service.client() as c:
        wait_idle(c, 4)
        assert pids(c) == before, "and again"
    service.stop()
    assert service.pids() == []
    service.wait_property("NFileDescriptorStore", "0")


def test_fault_68_strict_sessions_go_on_in_their_worker_with_their_values(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 2)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        homes = {name: c.execute("here", session=name)[0] for name in ("a", "b", "c")}
        c.call("session.put", session="a", values={"first": 41, "other": b"\x00" * 1000})
        c.execute("bump", session="b")
        c.call("session.close", session="c")
    crash(service)
    with service.client() as c:
        assert c.execute("here", session="a") == [homes["a"], 2], "the same process, and what it knows"
        assert c.execute("here", session="b") == [homes["b"], 2]
        assert c.execute("bump", session="a") == 42
        assert c.execute("bump", session="b") == 2
        assert [s["session"] for s in c.call("sessions")] == ["a", "b"]


def test_a_worker_keeps_the_max_reply_that_it_was_told(service: Service) -> None:
    """As long as a session keeps it: its settings are others now."""
    service.configure({"default": installed_pool("nasty", 1, max_reply="8M")})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        worker = c.execute("pid", session="s")
    service.configure({"default": installed_pool("nasty", 1, max_reply="1M")})
    crash(service)
    with service.client() as c:
        assert len(c.execute("big", 3_000_000, session="s")) == 3_000_000
        assert c.execute("pid", session="s") == worker


def test_fault_68_an_orderly_restart_carries_no_session_over(service: Service) -> None:
    """They have ended, with their hooks: who relies on one says that it shall not be opened."""
    service.configure({"default": installed_pool("sessions", 1)})
    service.start()
    with service.client() as c:
        c.execute("here", session="a")
    must("systemctl", "restart", service.unit)
    with service.client() as c:
        assert c.fail_execute("here", session="a", open=False).code == "session_not_found"
        assert c.execute("here", session="a")[1] == 1, "a new one"


def test_a_call_that_ran_goes_on_and_its_caller_is_not_told(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 1)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        home = c.execute("here", session="s")[0]
        number = c.start_execute("bump", 2.0, session="s")
        eventually(lambda: bool(c.call("status")["calls"]["running"]), "it runs")
        crash(service)
        try:
            c.wait(number)
            raise AssertionError("the connection cannot have outlived its daemon")
        except ConnectionEnded:
            pass
    with service.client() as c:
        assert c.execute("here", session="s") == [home, 2], "after the call"
        assert c.execute("read", session="s") == {}, "what nobody was told is not written"


def test_a_call_that_ran_is_ended_at_its_deadline(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2, cancel_grace="300ms", call_timeout="0")})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        before = pids(c)
        c.start_execute("sleep", 600.0, timeout_ms=2500)
        c.start_execute("sleep", 600.0)  # for ever, as far as anybody has said
        eventually(lambda: bool(c.call("status")["calls"]["running"] == 2), "they run")
        crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        assert pids(c) == before, "a sleep can be interrupted"


def test_a_worker_that_died_meanwhile_is_replaced_and_its_session_is_lost(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 2)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        home = c.execute("here", session="s")[0]
        other = (pids(c) - {home}).pop()
    service.kill(signal.SIGSTOP)
    os.kill(home, signal.SIGKILL)
    crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        assert other in pids(c) and home not in pids(c)
        error = c.fail_execute("here", session="s")
        assert error.code == "session_lost" and "worker" in error.message, error
    wait_stored(service, files_of(2))


def test_a_worker_that_dies_later_is_replaced(service: Service) -> None:
    """Its exit status is its new parent's: only that it is gone can be told."""
    service.configure({"default": installed_pool("nasty", 1)})
    service.drop_in(RATE)
    service.start()
    crash(service)
    with service.client() as c:
        wait_idle(c, 1)
        error = c.fail_execute("os_exit", 3)
        assert (error.code, error.executed) == ("worker_died", "maybe")
        wait_idle(c, 1)
        assert c.execute("echo", 1) == 1


def test_a_ledger_that_is_damaged_is_refused_and_all_begins_anew(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 2)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        before = pids(c)
        c.execute("here", session="s")
    damage_ledger(service)
    crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        assert not before & pids(c)
        assert c.call("sessions") == []
        assert c.execute("here", session="s")[1] == 1
    assert "reason=" in service.journal.messages("PYPOOL_EVENT=ledger.refused")
    eventually(lambda: not before & set(service.pids()), "they have been killed", 10 * SLOW)


def damage_ledger(service: Service) -> None:
    """As a daemon of another version, or a bug, might have left it."""
    pid = service.main_pid()
    damaged = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        if "pypoold-ledger" in os.readlink(path):
            with open(path, "r+b", buffering=0) as file:
                file.seek(8)
                file.write(b"\xff" * 8)
            damaged += 1
    assert damaged == 2


class Counter(threading.Thread):
    """One session that counts in the memory of its worker, and knows what was confirmed."""

    def __init__(self, service: Service, name: str, ended: threading.Event) -> None:
        super().__init__()
        self.service, self.session, self.ended = service, name, ended
        self.confirmed = 0
        self.sent = 0  # since then: each may have been done, and not confirmed
        self.calls = self.unsure = 0
        self.home: int | None = None
        self.trouble: str | None = None

    def run(self) -> None:
        while not self.ended.is_set() and self.trouble is None:
            try:
                with self.service.client() as c:
                    self.count(c)
            except (ConnectionEnded, ConnectionError, BrokenPipeError):
                continue
            except CallError as e:
                self.trouble = f"{self.session}: {e}"
            except Exception as e:
                self.trouble = f"{self.session}: {e!r}"

    def count(self, c: Client) -> None:
        while not self.ended.is_set():
            self.sent += 1
            home, n = c.execute("here", session=self.session)
            self.calls += 1
            done = n - self.confirmed
            if self.home not in (None, home) or not 1 <= done <= self.sent:
                self.trouble = f"{self.session}: {n} in {home} after {self.confirmed} in {self.home}, {self.sent} sent"
                return
            self.unsure += done - 1
            self.confirmed, self.home, self.sent = n, home, 0


def test_no_session_is_lost_when_the_daemon_is_killed_again_and_again(service: Service) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    service.configure({"default": installed_pool("sessions", 6, session_reserve=1)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        before = pids(c)
    ended = threading.Event()
    counters = [Counter(service, f"s{i}", ended) for i in range(50)]
    for counter in counters:
        counter.start()
    pause = threading.Event()
    for _ in range(KILLS):
        pause.wait(chance.uniform(0.05, 0.4))
        crash(service)
    pause.wait(0.3)
    ended.set()
    for counter in counters:
        counter.join(30 * SLOW)
    assert [counter.trouble for counter in counters if counter.trouble] == []
    calls = sum(counter.calls for counter in counters)
    print(f"{KILLS} kills of the daemon, {calls} calls, {sum(c.unsure for c in counters)} were done and not confirmed")
    assert all(counter.calls > KILLS for counter in counters)
    with service.client() as c:
        wait_idle(c, 6)
        assert pids(c) == before
        assert len(c.call("sessions")) == 50
    eventually(lambda: len(service.pids()) == 1 + 6, "the daemon and its workers", 10 * SLOW)
    assert "BUG" not in service.journal.messages(f"_SYSTEMD_UNIT={service.unit}")
