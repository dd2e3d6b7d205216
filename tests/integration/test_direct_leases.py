"""Direct leases: calls over a socket that only the holder and its worker have. Most workers are stubs, see
tests/chaos/stub/main.c, which keep a log of their own."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.history import read_events
from tests.support import procfs
from tests.support.client import Client, pack
from tests.support.daemon import BUILD, SLOW, Daemon, pool
from tests.support.direct import Direct
from tests.support.scenes import failing, notes, now, pool_of, wait_dead, wait_note, wait_workers, workers
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]

STUB = BUILD / "tests" / "stub_worker"


@pytest.fixture(autouse=True)
def built_stub() -> None:
    assert STUB.exists(), f"{STUB} does not exist: make tests"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def stubs(log: Path, n: int = 1, **settings: Any) -> dict[str, Any]:
    return {**pool("stub", n), "python": str(STUB), "environment": [f"STUB_LOG={log}"], **settings}


def tags(log: Path, letter: str = "S") -> list[str]:
    """Of the calls that were begun, in order."""
    return [e.tag for e in read_events(log) if e.letter == letter] if log.exists() else []


def wait_tag(log: Path, tag: str, letter: str = "S") -> None:
    eventually(lambda: tag in tags(log, letter), f"{letter} {tag} in the worker's log", 10.0 * SLOW)


def is_at_end(sock: socket.socket) -> bool:
    """Reads what is left, without waiting."""
    try:
        while sock.recv(65536, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def wait_end(sock: socket.socket) -> None:
    eventually(lambda: is_at_end(sock), "the socket is at its end", 5.0 * SLOW)


def test_calls_go_to_the_worker_with_nobody_in_between(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log, 2)})
    with daemon.client() as c:
        before = c.call("status")["calls"]["accepted"]
        with Direct(c, ttl_ms=20000) as lease:
            assert sorted(lease.reply) == ["expires_ms", "fds", "generation", "lease", "pid", "worker"]
            assert lease.reply["expires_ms"] == 20000
            assert lease.worker.execute("run", "one", "echo", 0) == "one"
            assert lease.worker.call("ping") == "pong"
            assert lease.worker.fail_execute("run", "two", "fail", 0).code == "app_error"
            held = [w for w in workers(c) if w["lease"] == lease.lease]
            assert [(w["worker"], w["pid"], w["state"]) for w in held] == [(lease.number, lease.pid, "busy")]
            assert held[0]["call"]["target"] == "direct lease" and held[0]["call"]["answered"] is False
            assert c.call("status")["calls"]["accepted"] == before + 1, "only the checkout"
            lease.checkin()
            wait_end(lease.worker.sock)
        wait_workers(c, "idle", 2)
        assert tags(log) == ["one", "two"]
        counters = pool_of(c)
        assert (counters["direct_calls"], counters["direct_errors"]) == (3, 1)
        assert [w["calls"] for w in workers(c) if w["worker"] == lease.number] == [3]


def test_pipelined_calls_run_in_order(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        numbers = [lease.worker.start_execute("run", f"t{i}", "echo", 0) for i in range(2000)]
        assert [lease.worker.wait(n).value() for n in numbers] == [f"t{i}" for i in range(2000)]
        assert lease.worker.order == numbers
        assert tags(log) == [f"t{i}" for i in range(2000)]
        big = lease.worker.execute("run", "big", "big", 5_000_000)
        assert len(big) == 5_000_003


def test_every_framing_brings_a_socket(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client(framing="bare", hello=False) as c, Direct(c) as lease:
        assert lease.worker.execute("run", "one", "echo", 0) == "one"


def test_calls_of_a_direct_lease_do_not_come_by_way_of_the_daemon(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        error = c.fail_execute("run", "tag", "echo", 0, lease=lease.lease)
        assert (error.code, error.executed) == ("bad_request", "never")
        assert "direct" in error.message and "socket" in error.message
        assert lease.worker.execute("run", "other", "echo", 0) == "other"
        assert tags(log) == ["other"]


def test_direct_must_be_true_or_false(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        assert "direct must be true or false" in c.fail("checkout", type="anonymous", direct=1).message
        assert "fds" not in c.call("checkout", type="anonymous", direct=False)
        assert not c.fds


def test_fault_77_a_socket_that_is_kept_reads_end_of_file_and_reaches_nobody(
    start_daemon: StartDaemon, log: Path
) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, daemon.client() as other:
        with Direct(c) as first:
            kept = first.worker.sock.dup()
            assert first.worker.execute("run", "first", "echo", 0) == "first"
            first.worker.send_bytes(b"\0\0\0")  # half a message, which nobody may complete
            first.checkin()
            with Direct(other) as second, kept:
                assert second.pid == first.pid
                wait_end(kept)
                with pytest.raises(BrokenPipeError):
                    kept.send(b"\x10")
                assert second.worker.execute("run", "second", "echo", 0) == "second"
                assert second.worker.is_silent(0.02)
        wait_workers(c, "idle", 1)
        assert tags(log) == ["first", "second"]


def test_fault_78_a_socket_sent_through_itself_leaves_nothing_behind(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        with Direct(c) as lease:
            sock = lease.worker.sock
            assert lease.worker.call("ping") == "pong"  # it has received its end
            worker_fds = sum(procfs.fd_kinds(lease.pid).values())
            for i in range(20):
                call = pack([0, i, "execute", [{"target": "run", "args": [f"t{i}", "echo", 0]}]])
                socket.send_fds(sock, [struct.pack(">I", len(call)) + call], [sock.fileno()] * 10)
            for i in range(20):
                assert lease.worker.wait(i).value() == f"t{i}"
            assert sum(procfs.fd_kinds(lease.pid).values()) == worker_fds
            socket.send_fds(sock, [b"\0\0\1"], [sock.fileno()])  # one that stays on its way
        wait_workers(c, "idle", 1)
        assert procfs.fd_kinds(daemon.pid) == fds
        with Direct(c) as lease:
            socket.send_fds(lease.worker.sock, [b"\0\0\1"], [lease.worker.sock.fileno(), c.sock.fileno()])
            lease.checkin()
        wait_workers(c, "idle", 1)
        assert procfs.fd_kinds(daemon.pid) == fds
        assert sum(procfs.fd_kinds(lease.pid).values()) == worker_fds - 1


@pytest.mark.parametrize("n", [1, 253])
def test_fault_70_71_fds_that_nobody_asked_for_are_not_received(start_daemon: StartDaemon, log: Path, n: int) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        ends = socket.socketpair()
        for i in range(20):
            call = pack([0, 1000 + i, "ping", []])
            socket.send_fds(c.sock, [struct.pack(">I", len(call)) + call], [ends[1].fileno()] * n)
            assert c.wait(1000 + i).value() == "pong"
        ends[1].close()
        assert ends[0].recv(1) == b"", "somebody holds the other end"
        ends[0].close()
        assert procfs.fd_kinds(daemon.pid) == fds


def test_fault_73_each_socket_belongs_to_its_reply_also_when_replies_come_together(
    start_daemon: StartDaemon, log: Path
) -> None:
    daemon = start_daemon({"default": stubs(log, 3)})
    with daemon.client() as c:
        # all in one write, so that the replies are written in one turn
        requests: list[Any] = []
        for i in range(3):
            requests.append([0, 10 * i + 1, "ping", []])
            requests.append([0, 10 * i + 2, "checkout", [{"type": "anonymous", "direct": True}]])
        c.send_bytes(b"".join(c.frame(pack(m)) for m in requests))
        replies = [c.wait(10 * i + 2).value() for i in range(3)]
        assert len(c.fds) == 3
        order = [i for i in c.order if i in (2, 12, 22)]
        for number in order:
            reply = replies[(number - 2) // 10]
            with Client(c.take_socket(), hello=False) as worker:
                assert worker.execute("run", f"lease-{reply['lease']}", "echo", 0) == f"lease-{reply['lease']}"
        wait_workers(c, "idle", 3)
        began = {e.tag: int(e.worker) for e in read_events(log) if e.letter == "S"}
        assert began == {f"lease-{r['lease']}": r["worker"] for r in replies}


def test_a_client_that_does_not_receive_the_socket_gives_the_lease_back(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, daemon.client() as other:
        c.send([0, 7, "checkout", [{"type": "anonymous", "direct": True}]])
        length = struct.unpack(">I", c.sock.recv(4))[0]  # recv: the kernel drops the fd
        assert c.sock.recv(length)
        assert other.execute("run", "next", "echo", 0) == "next"


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_fault_66_a_socket_that_its_client_closes_gives_the_lease_back(
    start_daemon: StartDaemon, log: Path, how: str
) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        lease = Direct(c)
        number = lease.worker.start_execute("run", "last", "sleep", 60000 if how == "close" else 50)
        wait_tag(log, "last")
        left = now()
        if how == "close":
            lease.worker.close()
        else:
            lease.worker.shutdown_write()
            assert lease.worker.wait(number).value() == "last"
            lease.worker.wait_closed()
        assert c.execute("run", "next", "echo", 0) == "next"
        assert now() - left < 1.0 * SLOW
        assert tags(log, "I") == (["last"] if how == "close" else [])
        error = c.fail("checkin", lease=lease.lease)
        assert (error.code, error.executed) == ("lease_expired", "never") and "its socket was closed" in error.message
        assert not c.notifications, "it knows"
        lease.worker.close()


def test_the_ttl_ends_a_call_that_runs(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        began = now()
        with Direct(c, ttl_ms=600) as lease:
            lease.worker.start_execute("run", "long", "sleep", 60000)
            lease.worker.start_execute("run", "waits", "sleep", 60000)
            news = lease.wait_lost()
            assert 0.6 <= now() - began < 0.6 + 0.5 * SLOW
            assert (news["reason"], news["worker"]) == ("ttl", lease.number) and "its ttl was over" in news["message"]
            assert "cause" not in news
            wait_end(lease.worker.sock)
        wait_tag(log, "long", "I")
        wait_workers(c, "idle", 1)
        assert [w["pid"] for w in workers(c)] == [lease.pid], "its worker came back clean"
        assert "waits" not in tags(log)


def test_fault_27_a_worker_that_does_not_give_the_lease_up_is_replaced(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log, cancel_grace="150ms")})
    with daemon.client() as c:
        with Direct(c, ttl_ms=500) as lease:
            lease.worker.start_execute("run", "deaf", "hang", 0)
            assert lease.wait_lost()["reason"] == "ttl"
            assert wait_dead(c, lease.number)["why"] == "cancelled"
        assert c.execute("run", "next", "echo", 0) == "next"


def test_a_checkin_interrupts_the_call_that_runs(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.start_execute("run", "long", "sleep", 60000)
        wait_tag(log, "long")
        lease.checkin()
        wait_end(lease.worker.sock)
        assert c.execute("run", "next", "echo", 0) == "next"
        assert tags(log, "I") == ["long"]
        assert pool_of(c)["died"] == 0
        assert not c.notifications, "it has asked for it"


def test_a_worker_that_is_killed_ends_the_lease_with_its_cause(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.start_execute("run", "loud", "noise", 2)
        lease.worker.start_execute("run", "long", "sleep", 60000)
        wait_tag(log, "long")
        os.kill(lease.pid, signal.SIGKILL)
        news = lease.wait_lost()
        assert news["reason"] == "worker_died" and news["worker"] == lease.number
        assert "was killed by signal 9 (SIGKILL) from outside of pypoold" in news["message"]
        assert (news["cause"]["reason"], news["cause"]["signal"]) == ("crashed", signal.SIGKILL)
        assert len(news["cause"]["output"]) == 2, "what was printed under the lease"
        wait_end(lease.worker.sock)
        assert c.fail("checkin", lease=lease.lease).code == "lease_expired"
        assert c.execute("run", "next", "echo", 0) == "next"


def test_a_plain_lease_whose_worker_dies_is_told_too(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, daemon.client(hello=False) as silent:
        lease = c.call("checkout", type="anonymous")
        number = c.start_execute("run", "dies", "die", 3, lease=lease["lease"])
        name, (news,) = c.wait_notification()
        assert c.replies[number], "the call is answered first"
        assert (name, news["lease"], news["reason"]) == ("lease_lost", lease["lease"], "worker_died")
        assert news["cause"]["exit_code"] == 3
        lease = silent.call("checkout", type="anonymous", ttl_ms=50)
        assert c.execute("run", "next", "echo", 0) == "next"
        assert silent.call("ping") == "pong"
        assert not silent.notifications, "without hello there are none"


def test_a_worker_that_breaks_the_protocol_meanwhile_is_killed(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.start_execute("run", "wrong", "garbage", 0)
        news = lease.wait_lost()
        assert news["reason"] == "worker_died" and "protocol" in news["message"]
        assert wait_dead(c, lease.number)["why"] == "protocol"


@pytest.mark.parametrize("garbage", [b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\xc0"])
def test_what_is_no_message_ends_the_lease_and_not_the_worker(
    start_daemon: StartDaemon, log: Path, garbage: bytes
) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.send_bytes(garbage)
        wait_end(lease.worker.sock)
        eventually(lambda: c.fail("checkin", lease=lease.lease).code == "lease_expired", "the lease has ended", 5 * SLOW)
        wait_workers(c, "idle", 1)
        assert [w["pid"] for w in workers(c)] == [lease.pid]


def test_fault_66_an_owner_that_is_gone_leaves_nothing(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        goes = daemon.client()
        lease = Direct(goes)
        kept = lease.worker.sock.dup()
        lease.worker.start_execute("run", "long", "sleep", 60000)
        wait_tag(log, "long")
        left = now()
        goes.close()
        with kept:
            assert c.execute("run", "next", "echo", 0) == "next"
            assert now() - left < 1.0 * SLOW
            wait_end(kept)
        lease.worker.close()
        assert tags(log, "I") == ["long"]
        eventually(lambda: procfs.fd_kinds(daemon.pid) == fds, "the daemon holds no more than before", 5 * SLOW)


def test_a_thousand_leases_leave_nothing(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log, 2)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        for i in range(1000):
            with Direct(c) as lease:
                assert lease.worker.execute("run", f"t{i}", "echo", 0) == f"t{i}"
                if i % 2:
                    lease.checkin()
        wait_workers(c, "idle", 2)
        assert procfs.fd_kinds(daemon.pid) == fds
        assert all(sum(procfs.fd_kinds(w["pid"]).values()) <= 8 for w in workers(c))
        assert pool_of(c)["direct_calls"] == 1000 and pool_of(c)["died"] == 0


def test_fault_89_a_daemon_that_stops_lets_what_was_sent_be_answered(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        running = lease.worker.start_execute("run", "running", "sleep", 300)
        queued = lease.worker.start_execute("run", "queued", "sleep", 10)
        wait_tag(log, "running")
        daemon.signal(signal.SIGTERM)
        assert lease.worker.wait(running).value() == "running"
        assert lease.worker.wait(queued).value() == "queued"
        assert lease.wait_lost()["reason"] == "shutdown"
        wait_end(lease.worker.sock)
        assert daemon.wait() == 0


def test_a_daemon_that_stops_does_not_wait_for_a_lease_that_does_nothing(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c, Direct(c) as lease:
        began = now()
        daemon.signal(signal.SIGTERM)
        assert lease.wait_lost()["reason"] == "shutdown"
        assert daemon.wait() == 0
        assert now() - began < 3.0 * SLOW


@contextmanager
def full_of_files(daemon: Daemon) -> Iterator[None]:
    """The daemon has no free file descriptor meanwhile: 0 to 2 are taken."""
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_free_file_descriptor_a_checkout_is_overloaded(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        with full_of_files(daemon):
            error = c.fail("checkout", type="anonymous", direct=True)
        assert (error.code, error.executed) == ("overloaded", "never")
        assert "file descriptor" in error.message
        assert procfs.fd_kinds(daemon.pid) == fds and not c.fds
        wait_workers(c, "idle", 1)
        with Direct(c) as lease:
            assert lease.worker.execute("run", "again", "echo", 0) == "again"


@pytest.mark.parametrize("which", [1, 3])
def test_fault_74_too_many_fds_on_their_way_is_a_quota_and_leaks_nothing(
    start_daemon: StartDaemon, log: Path, which: int
) -> None:
    """The first sendmsg of a checkout brings the worker its end, the second the call, the third the client its end."""
    daemon = start_daemon({"default": stubs(log)})
    with daemon.client() as c:
        fds = procfs.fd_kinds(daemon.pid)
        with failing(daemon, "sendmsg", "ETOOMANYREFS", which):
            error = c.fail("checkout", type="anonymous", direct=True)
        assert (error.code, error.executed) == ("quota", "never")
        assert "on their way" in error.message
        assert not c.fds
        wait_workers(c, "idle", 1)
        eventually(lambda: procfs.fd_kinds(daemon.pid) == fds, "the daemon holds no more than before", 5 * SLOW)
        assert all(client["leases"] == 0 for client in c.call("clients"))
        with Direct(c) as lease:
            assert lease.worker.execute("run", "again", "echo", 0) == "again"


def test_a_client_that_does_not_receive_its_sockets_gets_no_more_of_them(start_daemon: StartDaemon, log: Path) -> None:
    daemon = start_daemon({"default": stubs(log, 2)})
    with daemon.client() as c, daemon.client() as other:
        numbers = []
        for i in range(100):
            numbers.append(c.start("checkout", type="anonymous", direct=True, ttl_ms=1))
            eventually(lambda: bool(other.call("queue") == [] and pool_of(other)["idle"] == 2), "it is answered", 5 * SLOW)
        errors = [c.wait(n).error for n in numbers]
        assert errors[:64] == [None] * 64
        assert {(e["code"], e["executed"]) for e in errors[64:]} == {("quota", "never")}
        assert len(c.fds) == 64
        while c.fds:
            c.take_socket().close()
        with Direct(c) as lease:
            assert lease.worker.execute("run", "again", "echo", 0) == "again"


# ---- with Python workers


def test_a_python_worker_serves_its_holder_and_comes_back_clean(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        with Direct(c) as lease:
            numbers = [lease.worker.start_execute("echo", i) for i in range(1000)]
            assert [lease.worker.wait(n).value() for n in numbers] == list(range(1000))
            error = lease.worker.fail_execute("raise_chained")
            assert (error.code, error.executed) == ("app_error", "yes")
            assert lease.worker.call("ping") == "pong"
            lease.checkin()
        assert c.execute("pid") == lease.pid
        counters = pool_of(c)
        assert (counters["direct_calls"], counters["direct_errors"], counters["died"]) == (1001, 1, 0)


@pytest.mark.parametrize("way", ["sleep", "python", "recv"])
def test_the_ttl_ends_a_python_handler(start_daemon: StartDaemon, tmp_path: Path, way: str) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        with Direct(c, ttl_ms=1000) as lease:
            for name in ("runs", "waits"):
                lease.worker.start_execute("record", str(ledger), way, 60.0, name)
            wait_note(ledger, "begun", "runs")
            assert lease.wait_lost()["reason"] == "ttl"
            wait_note(ledger, "CallCancelled", "runs")
            wait_end(lease.worker.sock)
        wait_workers(c, "idle", 1)
        assert [w["pid"] for w in workers(c)] == [lease.pid]
        assert not any(n["what"] == "begun" for n in notes(ledger, "waits")), "nothing is begun after the end"


def test_a_python_handler_that_ignores_the_end_of_its_lease_costs_its_worker(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("recorder", 1, cancel_grace="150ms")})
    ledger = tmp_path / "ledger"
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.start_execute("record", str(ledger), "ignore", 60.0, "deaf")
        wait_note(ledger, "begun", "deaf")
        lease.checkin()
        assert wait_dead(c, lease.number)["why"] == "cancelled"
        wait_end(lease.worker.sock)


def test_what_is_no_message_is_answered_by_a_python_worker_and_ends_the_lease(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, Direct(c) as lease:
        lease.worker.send_bytes(b"\0\0\0\1\xc1")
        assert lease.worker.wait_error(None).code == "bad_msgpack"
        lease.worker.wait_closed()
        assert c.execute("pid") == lease.pid
        assert c.fail("checkin", lease=lease.lease).code == "lease_expired"
        assert not c.notifications


def test_fault_89_a_python_handler_ends_before_the_daemon_does(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("recorder", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c, Direct(c) as lease:
        number = lease.worker.start_execute("record", str(ledger), "sleep", 0.5, "runs")
        wait_note(ledger, "begun", "runs")
        daemon.signal(signal.SIGTERM)
        lease.worker.wait(number).value()
        assert lease.wait_lost()["reason"] == "shutdown"
        assert daemon.wait() == 0
