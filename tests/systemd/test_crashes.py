"""Crashes of the daemon at bad moments, and those after which no other comes."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

from tests.support.client import CallError, ConnectionEnded
from tests.support.daemon import PYTHON, SLOW, configuration
from tests.support.direct import Direct
from tests.support.waiting import eventually
from tests.systemd.crashing import RATE, crash, files_of, pids, wait_idle, wait_stored, workers
from tests.systemd.machine import must
from tests.systemd.service import Service, installed_pool


def begin(service: Service, **settings: str | int) -> None:
    service.configure({"default": installed_pool("sessions", 2, **settings)})
    service.drop_in(RATE)
    service.start()


def test_a_worker_hears_late_of_many_daemons(service: Service) -> None:
    """None of those was told by it which call socket it has: the first of all must not end."""
    begin(service)
    with service.client() as c:
        home = c.execute("here", session="s")[0]
    crash(service)  # of a daemon's own children the kernel ends those that are stopped
    os.kill(home, signal.SIGSTOP)
    for _ in range(4):
        crash(service)
    os.kill(home, signal.SIGCONT)
    with service.client() as c:
        wait_idle(c, 2)
        assert c.execute("here", session="s") == [home, 2]
    wait_stored(service, files_of(2))


def noted_call(pid: int) -> int:
    """In the page that the daemon shares with it."""
    return int(struct.unpack_from("4Q", Path(f"/proc/{pid}/fd/6").read_bytes())[2])


def test_a_call_that_is_over_is_not_waited_for_again(service: Service) -> None:
    begin(service)
    with service.client() as c:
        c.start_execute("sleep", 1.5)
        busy = eventually(lambda: [w["pid"] for w in workers(c).values() if w["state"] == "busy"], "it runs")[0]
        assert noted_call(busy) != 0
        crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        assert noted_call(busy) == 0


def test_other_settings_are_those_of_other_workers(service: Service) -> None:
    """Somebody has edited the file, and not reloaded it."""
    begin(service)
    with service.client() as c:
        before = pids(c)
        home = c.execute("here", session="s")[0]
    service.configure({"default": installed_pool("sessions", 2, environment=["CHANGED=1"])})
    crash(service)
    with service.client() as c:
        assert c.execute("here", session="s") == [home, 2]
        eventually(lambda: len(pids(c) - before) == 2, "two others have been started", 30 * SLOW)
        c.call("session.close", session="s")
        eventually(lambda: not pids(c) & before, "the old ones leave with their sessions", 30 * SLOW)
        assert {w["generation"] for w in workers(c).values()} == {3}


def test_fewer_workers_and_fewer_pools_are_configured_by_now(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 3), "gone": installed_pool("sessions", 1)})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        gone = c.execute("pid", pool="gone")
        before = pids(c) - {gone}
        c.execute("here", session="s", pool="gone")
    service.configure({"default": installed_pool("sessions", 1)})
    crash(service)
    with service.client() as c:
        wait_idle(c, 1)
        assert pids(c) < before and c.call("sessions") == []
    eventually(lambda: len(service.pids()) == 2, "the daemon and one worker", 10 * SLOW)
    assert gone not in service.pids()
    wait_stored(service, files_of(1))


def test_a_worker_that_is_being_replaced_goes_on_for_its_sessions(service: Service) -> None:
    begin(service)
    with service.client() as c:
        home = c.execute("here", session="s")[0]
        must("pypoolctl", "--socket", str(service.socket), "reload")
        eventually(lambda: "draining" in {w["state"] for w in workers(c).values()}, "it drains", 30 * SLOW)
    crash(service)
    with service.client() as c:
        assert c.execute("here", session="s") == [home, 2]
        c.call("session.close", session="s")
        eventually(lambda: home not in pids(c), "it leaves", 30 * SLOW)
        wait_idle(c, 2)
        assert {w["generation"] for w in workers(c).values()} == {2}


def is_cut(lease: Direct) -> bool:
    try:
        assert lease.worker.execute("pid") == lease.pid
    except (ConnectionEnded, BrokenPipeError):
        return True
    return False


def test_direct_leases_end_and_their_workers_serve_on(service: Service) -> None:
    begin(service)
    with service.client() as c:
        before = pids(c)
        with Direct(c, ttl_ms=1500) as busy, Direct(c) as idle:
            assert idle.worker.execute("pid") == idle.pid
            busy.worker.start_execute("sleep", 600.0)  # until the lease would end
            crash(service)
            for lease in (busy, idle):  # each ends when its worker hears of the new daemon
                eventually(lambda: is_cut(lease), "nobody answers", 30 * SLOW)
    with service.client() as c:
        wait_idle(c, 2)
        assert pids(c) == before and c.call("leases") == []


def test_values_of_sessions_that_may_move_are_kept(service: Service) -> None:
    begin(service, affinity="prefer", session_max_bytes="2M")
    large = os.urandom(1 << 20)
    with service.client() as c:
        c.call("session.put", session="large", values={"first": large})
        c.execute("bump", session="counted")
    crash(service)
    with service.client() as c:
        assert c.execute("read", session="large") == {"first": large}
        assert c.execute("bump", session="counted") == 2
        assert c.execute("read", session="counted") == {"first": 2, "second": 2}


def test_what_lived_on_is_charged_to_its_user(service: Service) -> None:
    service.configure({"default": installed_pool("sessions", 2)}, uid_max_sessions=2)
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        c.execute("bump", session="a")
        c.execute("bump", session="b")
    crash(service)
    with service.client() as c:
        assert c.fail_execute("bump", session="c").code == "quota"
        wait_idle(c, 2)
        c.call("session.close", session="a")

        def opened() -> int:  # it is charged until its hook has run
            try:
                return int(c.execute("bump", session="c"))
            except CallError as e:
                assert e.code == "quota", e
                return 0

        assert eventually(opened, "there is room for another session", 10 * SLOW) == 1
        assert c.execute("bump", session="b") == 2


def test_what_ignores_its_interrupt_is_killed(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2, cancel_grace="100ms")})
    service.drop_in(RATE)
    service.start()
    with service.client() as c:
        before = pids(c)
        c.start_execute("swallow_and_sleep", timeout_ms=2500)
        busy = eventually(lambda: [w["pid"] for w in workers(c).values() if w["state"] == "busy"], "it runs")[0]
        crash(service)
    with service.client() as c:
        eventually(lambda: busy not in pids(c), "it is killed", 30 * SLOW)
        wait_idle(c, 2)
        assert before - {busy} < pids(c)
        assert "lost" in {w["why"] for w in c.call("workers") if w["pid"] == busy}


def test_hooks_run_for_a_session_that_is_closed_at_once(service: Service) -> None:
    """Before its worker, which is stopped here, has said that it has such hooks."""
    begin(service)
    ledger = Path("/var/lib/pypoold/closed")
    with service.client() as c:
        home = c.execute("here", session="s")[0]
        c.call("session.put", session="s", values={"ledger": str(ledger)})
        c.execute("bump", session="s")
    crash(service)
    os.kill(home, signal.SIGSTOP)
    crash(service)
    with service.client() as c:
        c.call("session.close", session="s")
        os.kill(home, signal.SIGCONT)
        eventually(lambda: ledger.exists() and ledger.read_text(), "the hook has run", 30 * SLOW)
    assert ledger.read_text() == f"s {home} 1\n"


def test_fault_117_a_worker_that_lived_on_does_not_administer(service: Service) -> None:
    """It is no child of this daemon. Somebody has made its user an admin."""
    ask = ["pypoolctl", "--socket", str(service.socket), "pause", "default"]
    unmarked = f"import os, resource as r; r.setrlimit(10, (r.RLIM_INFINITY,) * 2); os.execvp({ask[0]!r}, {ask!r})"  # RLIMIT_LOCKS
    text = configuration({}, {"default": installed_pool("nasty")}, {"own": {"uid": ["pypool"], "role": "admin"}})
    service.write(text)
    service.drop_in(RATE)
    service.start()
    crash(service)
    with service.client() as c:
        assert c.hello["role"] == "admin"
        for command in (ask, [PYTHON, "-c", unmarked]):
            status, text = c.execute("run_command", *command)
            assert status == 1 and "denied" in text, text
    assert service.reload().status == 0, "what root runs in the unit may"


# ---- before it is ready, and when it is to end


def test_a_crash_before_it_is_ready(service: Service) -> None:
    service.configure(
        {"default": installed_pool("sessions"), "slow": installed_pool("slow_import", environment=["PYPOOL_TEST_SECONDS=600"])}
    )
    service.drop_in(RATE)
    must("systemctl", "start", service.socket_unit)  # which the service alone may not have brought up when that returns
    must("systemctl", "start", "--no-block", service.unit)
    with service.client() as c:
        home = c.execute("here", session="s")[0]
    service.kill(signal.SIGKILL)
    service.wait_property("NRestarts", "1")
    with service.client() as c:
        assert c.execute("here", session="s") == [home, 2]
        wait_stored(service, files_of(1))
    service.stop()
    assert service.pids() == []


def run_deep_in_c(service: Service) -> int:
    """A worker that finds none of its channels at their end for a long time."""
    with service.client() as c:
        c.start_execute("busy_c", 300.0)
        busy = eventually(lambda: [w for w in workers(c).values() if w["state"] == "busy"], "it runs")[0]
        # before that the end of this connection would still interrupt it
        eventually(lambda: "holds the GIL" in str(c.call("worker.stack", worker=busy["worker"])), "it is deep in C", 10 * SLOW)
    return int(busy["pid"])


def check_ended(service: Service) -> None:
    service.wait_property("ActiveState", "failed")
    eventually(lambda: not service.pids(), "no process in the cgroup", 10 * SLOW)
    service.wait_property("NFileDescriptorStore", "0")


def test_a_crash_while_it_stops_leaves_nothing(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.start()
    busy = run_deep_in_c(service)
    must("systemctl", "stop", "--no-block", service.unit)
    service.wait_property("ActiveState", "deactivating")
    service.kill(signal.SIGKILL)
    check_ended(service)
    eventually(lambda: not Path(f"/proc/{busy}").exists(), "it is gone, and has been waited for", 10 * SLOW)


def test_when_systemd_gives_up_nothing_is_left(service: Service) -> None:
    service.configure({"default": installed_pool("nasty", 2)})
    service.drop_in("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nRestartSec=1ms\n")
    service.start()
    crash(service)
    busy = run_deep_in_c(service)
    service.kill(signal.SIGKILL)
    check_ended(service)
    eventually(lambda: not Path(f"/proc/{busy}").exists(), "it is gone, and has been waited for", 10 * SLOW)
    must("systemctl", "reset-failed", service.unit)
    service.start()
    assert service.execute("echo", 1) == 1
    service.stop()
    assert service.pids() == []


def test_a_ledger_without_room_is_said_so_once(service: Service) -> None:
    """LimitFSIZE= counts for its memory."""
    begin(service)
    service.stop()
    service.drop_in(RATE + "LimitFSIZE=256K\n")
    service.start()
    with service.client() as c:
        for name in ("a", "b", "c", "d"):
            c.call("session.put", session=name, values={"first": b"x" * 100_000})
        assert c.execute("here", session="a")[1] == 1
    assert len(service.journal.records("PYPOOL_EVENT=ledger.void")) == 1
    crash(service)
    with service.client() as c:
        wait_idle(c, 2)
        assert c.call("sessions") == []


