"""Clients that are many, slow, greedy or half gone: framings, back-pressure, quotas, fairness, a daemon without fds."""

from __future__ import annotations

import errno
import re
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support import procfs
from tests.support.client import Client, ConnectionEnded, Framing, pack
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import failing
from tests.support.users import ALICE, OPEN, client_of, needs_root
from tests.support.waiting import eventually

FRAMINGS: list[Framing] = ["prefixed", "bare"]
KIB = 1024
SMALL_FRAME = 64 * KIB
BUDGET = 2 * SMALL_FRAME  # bytes of calls and replies, above which the daemon does not read a client

Start = Callable[..., Daemon]


@pytest.fixture
def daemon(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 2)})


@pytest.fixture
def narrow(start_daemon: Start) -> Daemon:
    """One worker, and a small budget for each client."""
    return start_daemon({"default": pool("nasty", 1, max_queue=0)}, max_frame=SMALL_FRAME)


@contextmanager
def all_workers_taken(daemon: Daemon, workers: int = 1) -> Iterator[None]:
    """Calls of others wait until the end of the block."""
    with daemon.client() as c:
        leases = [c.call("checkout", type="anonymous")["lease"] for _ in range(workers)]
        yield
        for lease in leases:
            assert c.call("checkin", lease=lease) is True


def calls(observer: Client, key: str) -> int:
    """One of the counters of status."""
    return int(observer.call("status")["calls"][key])


def connections(observer: Client) -> int:
    return int(observer.call("status")["clients"])


def queued(daemon: Daemon) -> int:
    return int(daemon.status()["calls"]["queued"])


class Sender:
    """Sends bytes in a thread of its own, as far as the daemon reads."""

    def __init__(self, client: Client, data: bytes) -> None:
        self.gone = False
        self._client = client
        self._data = data
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._client.sock.sendall(self._data)
        except OSError:
            self.gone = True

    def is_blocked(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def bytes_read(observer: Client, number: int) -> int:
    (found,) = [c for c in observer.call("clients") if c["client"] == number]
    return int(found["bytes_in"])


def newest_client(observer: Client) -> int:
    return max(int(c["client"]) for c in observer.call("clients"))


def stopped_at(observer: Client, number: int, least: int) -> int:
    """How many bytes the daemon has read of a client when it has stopped doing so."""
    eventually(lambda: bytes_read(observer, number) > least, f"more than {least} bytes are read")

    def still() -> int:
        seen = {bytes_read(observer, number) for _ in range(30)}
        return seen.pop() if len(seen) == 1 else 0

    return eventually(still, "it has stopped reading")


def execute_frames(client: Client, target: str, args: list[Any], count: int) -> tuple[range, bytes]:
    """The ids and the bytes of that many calls."""
    first = client.new_id()
    body = [pack([0, first + n, "execute", [{"target": target, "args": args}]]) for n in range(count)]
    return range(first, first + count), b"".join(map(client.frame, body))


# ---- framings


@pytest.mark.parametrize("framing", FRAMINGS)
def test_both_framings_carry_everything(daemon: Daemon, framing: Framing) -> None:
    values: list[Any] = [None, True, -1, 2**64 - 1, 1.5, "é\n\x00", b"\x00\xff" * 600_000, [[], {}], {"a": {"b": [1]}}, {1: 2}]
    with daemon.client(framing=framing) as c:
        numbers = {c.start_execute("echo", value): value for value in values}
        for number, value in numbers.items():
            assert c.wait(number).value() == value


def test_both_framings_at_once_do_not_mix(daemon: Daemon) -> None:
    with daemon.client(framing="bare") as bare, daemon.client(framing="prefixed") as prefixed:
        pairs = [(bare.start_execute("echo", n), prefixed.start_execute("echo", -n)) for n in range(200)]
        for n, (one, other) in enumerate(pairs):
            assert (bare.wait(one).value(), prefixed.wait(other).value()) == (n, -n)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_methods_and_keys_may_be_bin_and_params_may_be_missing(daemon: Daemon, framing: Framing) -> None:
    with daemon.client(framing=framing) as c:
        c.send([0, 100, b"execute", [{b"target": b"echo", b"args": [1]}]])
        assert c.wait(100).value() == 1
        for number, params in enumerate(([], [[]], [{}], [None]), 101):
            c.send([0, number, "ping", params])
            assert c.wait(number).value() == "pong", params


def test_replies_come_in_the_order_of_their_ends(daemon: Daemon) -> None:
    with daemon.client() as c:
        slow, fast = c.start_execute("sleep", 0.3), c.start_execute("echo", 1)
        assert c.wait(fast).value() == 1
        assert slow not in c.order
        assert c.wait(slow).value() == 0.3


# ---- half-closed


@pytest.mark.parametrize("framing", FRAMINGS)
def test_fault_18_a_client_that_sends_no_more_gets_all_its_replies(daemon: Daemon, framing: Framing) -> None:
    with daemon.client(framing=framing) as c:
        numbers = [c.start_execute("echo", b"x" * 100_000) for _ in range(10)]
        numbers += [c.start_execute("sleep", 0.1), c.start_execute("sleep", 0.05)]
        c.shutdown_write()
        for number in numbers:
            c.wait(number).value()
        c.wait_closed()
        assert len(c.order) == len(numbers) + 1, "hello's and theirs"


def test_fault_18_the_call_of_a_client_that_then_goes_is_cancelled(daemon: Daemon) -> None:
    with daemon.client() as observer:
        with daemon.client() as c:
            c.start_execute("sleep", 60)
            c.shutdown_write()
            eventually(lambda: calls(observer, "running") == 1, "it runs")
            assert observer.execute("echo", 1) == 1
            assert calls(observer, "running") == 1, "half-closed is not gone"
        eventually(lambda: calls(observer, "abandoned") == 1, "it is given up")


def client_age(observer: Client, number: int) -> int:
    """Milliseconds since that client connected, 0 when it is gone."""
    return next((int(c["connected_ms"]) for c in observer.call("clients") if c["client"] == number), 0)


def test_fault_18_a_client_that_sends_no_more_may_take_its_time_to_read(daemon: Daemon) -> None:
    with daemon.client() as observer, daemon.client() as c:
        number = newest_client(observer)
        call = c.start_execute("echo", b"x" * 4_000_000)
        c.shutdown_write()
        eventually(lambda: calls(observer, "completed") == 1, "its reply is on its way")
        late = client_age(observer, number) + 1500
        eventually(lambda: not 0 < client_age(observer, number) < late, "it has read nothing for a while")
        assert len(c.wait(call).value()) == 4_000_000
        c.wait_closed()


def test_fault_18_a_client_that_sends_no_more_and_goes_unread_is_let_go(daemon: Daemon) -> None:
    with daemon.client() as observer:
        with daemon.client() as c:
            c.start_execute("echo", b"x" * 4_000_000)
            c.shutdown_write()
            eventually(lambda: calls(observer, "completed") == 1, "its reply is on its way")
        eventually(lambda: connections(observer) == 1, "nobody waits for one that is gone")


def test_fault_89_a_client_that_sends_no_more_and_never_reads_does_not_stop_the_stop(daemon: Daemon) -> None:
    with daemon.client() as c:
        with daemon.client() as observer:
            c.start_execute("echo", b"x" * 4_000_000)
            c.shutdown_write()
            eventually(lambda: calls(observer, "completed") == 1, "its reply is on its way")
        daemon.stop(quiet=False, timeout=10.0)


# ---- back-pressure


def test_a_client_over_its_budget_of_bytes_is_not_read_until_half_is_drained(narrow: Daemon) -> None:
    with narrow.client() as observer, narrow.client() as c:
        number = newest_client(observer)
        with all_workers_taken(narrow):
            ids, frames = execute_frames(c, "echo", [b"x" * 32_000], 100)
            sender = Sender(c, frames)
            read = stopped_at(observer, number, BUDGET)
            assert read <= BUDGET + 2 * SMALL_FRAME, "it must stop at the budget, one read later at most"
            assert sender.is_blocked(), "the client feels it"
        assert all(len(c.wait(n).value()) == 32_000 for n in ids)
        sender.join()


def test_a_client_that_goes_while_it_is_not_read_is_noticed(narrow: Daemon) -> None:
    with narrow.client() as observer, all_workers_taken(narrow):
        c = narrow.client()
        number = newest_client(observer)
        sender = Sender(c, execute_frames(c, "echo", [b"x" * 32_000], 100)[1])
        stopped_at(observer, number, BUDGET)
        c.sock.shutdown(socket.SHUT_RDWR)
        sender.join()
        c.close()
        eventually(lambda: calls(observer, "queued") == 0, "its calls are given up")


def test_fault_19_a_client_that_does_not_read_is_not_read_from(narrow: Daemon) -> None:
    with narrow.client() as observer, narrow.client() as c:
        number = newest_client(observer)
        ids = range(10_000, 110_000)
        frames = b"".join(c.frame(pack([0, n, "ping", []])) for n in ids)
        sender = Sender(c, frames)
        read = stopped_at(observer, number, SMALL_FRAME)
        assert read < len(frames) and sender.is_blocked()
        for n in ids:
            assert c.wait(n).value() == "pong"
        sender.join()


def peak(daemon: Daemon) -> int:
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) * KIB


def test_fault_19_replies_that_nobody_reads_close_the_connection_at_the_hard_cap(narrow: Daemon) -> None:
    with narrow.client() as other, narrow.client() as c:
        before = peak(narrow)
        _, frames = execute_frames(c, "big", [60_000], 300)
        c.send_bytes(frames)
        longest = 0.0
        while "does not read its replies" not in narrow.log():
            began = time.monotonic()
            assert other.execute("echo", 1) == 1
            longest = max(longest, time.monotonic() - began)
        assert longest < 1.0, "others must not wait for it"
        assert peak(narrow) - before < 4 * 1024 * KIB, "18 MB were asked for"
        with pytest.raises(ConnectionEnded):
            while True:
                c.wait_any()
        assert len(c.order) < 300
        eventually(lambda: calls(other, "queued") == 0, "the rest is given up")
        assert other.execute("echo", 2) == 2


def test_fault_19_clients_of_one_uid_that_do_not_read_hold_uid_max_bytes_together(start_daemon: Start) -> None:
    size = 4_000_000  # more than the socket takes
    daemon = start_daemon({"default": pool("nasty", 2)}, uid_max_bytes=size)
    with ExitStack() as stack, daemon.client() as reader:
        mute = [stack.enter_context(daemon.client()) for _ in range(6)]
        for c in mute:
            c.start_execute("big", size)
        eventually(lambda: calls(reader, "completed") == len(mute), "all replies are on their way")
        assert len(reader.execute("big", size)) == size, "who reads is served"
        match = daemon.wait_log(r"client\.hog .*uid_max_bytes=4000000")
        assert match is not None
        eventually(lambda: connections(reader) < 1 + len(mute), "those that hold most are closed")
        assert connections(reader) > 1, "and no more than need be"
        assert len(reader.execute("big", size)) == size


def test_fault_20_a_reply_that_is_read_in_crumbs_is_whole(daemon: Daemon) -> None:
    value = bytes(range(256)) * 8 * KIB
    with daemon.client() as c:
        number = c.start_execute("echo", value)
        data = bytearray()
        while len(data) < 2000:
            data += c.sock.recv(1)
        while len(data) < 4 + struct.unpack_from(">I", data)[0]:
            data += c.sock.recv(4099)
        assert msgpack.unpackb(bytes(data[4:]), raw=False) == [1, number, None, value]


# ---- quotas


def test_fault_99_calls_past_uid_max_calls_are_refused_on_every_connection_of_the_uid(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, uid_max_calls=3)
    with daemon.client() as c, daemon.client() as second:
        for _ in range(2):  # the counter returns to 0
            with all_workers_taken(daemon):
                waiting = [c.start_execute("echo", n) for n in range(3)]
                error = c.fail_execute("echo", 1)
                assert (error.code, error.executed) == ("quota", "never") and "uid_max_calls" in error.message
                assert second.fail_execute("echo", 1).code == "quota"
                assert second.call("ping") == "pong", "only calls count"
            assert [c.wait(n).value() for n in waiting] == [0, 1, 2]
        assert second.execute("echo", 1) == 1


def test_fault_28_of_many_pipelined_calls_those_past_the_limit_are_refused(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_queue=0)}, uid_max_calls=100)
    with daemon.client() as c:
        with all_workers_taken(daemon):
            ids, frames = execute_frames(c, "echo", [1], 100_000)
            c.send_bytes(frames)
            for n in ids[100:]:
                error = c.wait_error(n)
                assert (error.code, error.executed) == ("quota", "never")
        assert all(c.wait(n).value() == 1 for n in ids[:100])


def test_fault_99_bytes_past_uid_max_bytes_are_refused(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, uid_max_bytes=64 * KIB)
    with daemon.client() as c, daemon.client() as second:
        for _ in range(2):
            with all_workers_taken(daemon, 2):
                first = c.start_execute("echo", b"x" * 40_000)
                eventually(lambda: queued(daemon) == 1, "it is there before the other")
                error = second.fail_execute("echo", b"x" * 40_000)
                assert (error.code, error.executed) == ("quota", "never") and "uid_max_bytes" in error.message
                small = second.start_execute("echo", b"x" * 10_000)
            assert len(c.wait(first).value()) == 40_000 and len(second.wait(small).value()) == 10_000


def test_calls_past_max_queue_are_refused_as_overloaded(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_queue=5)})
    with daemon.client() as c:
        with all_workers_taken(daemon):
            waiting = [c.start_execute("echo", n) for n in range(5)]
            error = c.fail_execute("echo", 5)
            assert (error.code, error.executed) == ("overloaded", "never") and "max_queue" in error.message
        assert [c.wait(n).value() for n in waiting] == list(range(5))


@needs_root
@pytest.mark.parametrize(("limit", "of_alice"), [("uid_max_connections", 4), ("max_clients", 3)])
def test_fault_21_connections_past_the_limit_are_told_so_and_closed(
    start_daemon: Start, limit: str, of_alice: int
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, **OPEN, **{limit: 4})
    with daemon.client() as c:
        with ExitStack() as stack:
            last = [stack.enter_context(client_of(daemon, ALICE)) for _ in range(of_alice)][-1]
            with client_of(daemon, ALICE, framing="bare", hello=False) as over:
                error = over.wait_error(None)
                assert error.code == "quota" and limit in error.message
                over.wait_closed()
            assert last.call("ping") == "pong"
        eventually(lambda: connections(c) == 1, "all are forgotten")
        with client_of(daemon, ALICE) as another:
            assert another.execute("echo", 1) == 1
        eventually(lambda: connections(c) == 1, "that one too")


# ---- fairness


def test_fault_29_calls_of_two_clients_take_turns_however_many_one_has(
    start_daemon: Start, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as greedy, daemon.client() as modest:
        with all_workers_taken(daemon):
            many = [greedy.start_execute("append_line", str(ledger), "greedy") for _ in range(200)]
            eventually(lambda: queued(daemon) == 200, "the greedy one was first")
            few = [modest.start_execute("append_line", str(ledger), "modest") for _ in range(20)]
            eventually(lambda: queued(daemon) == 220, "both wait")
        for n in few:
            modest.wait(n).value()
        for n in many:
            greedy.wait(n).value()
    order = ledger.read_text().split()
    assert order[:40].count("modest") in (19, 20, 21)
    assert "modest" not in order[41:]


def test_calls_of_one_client_run_in_the_order_in_which_they_came(start_daemon: Start, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        numbers = [c.start_execute("append_line", str(ledger), str(n)) for n in range(100)]
        for n in numbers:
            c.wait(n).value()
    assert ledger.read_text().split() == [str(n) for n in range(100)]


# ---- a daemon without file descriptors


@contextmanager
def no_fds_left(daemon: Daemon) -> Iterator[None]:
    used = procfs.fds(daemon.pid)
    lowest_free = next(n for n in range(len(used) + 1) if n not in used)
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        if daemon.process.poll() is None:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


def wakeups(daemon: Daemon) -> int:
    """How often it has gone to sleep by itself."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)
    assert match is not None
    return int(match[1])


def cpu_ms(daemon: Daemon) -> int:
    text = Path(f"/proc/{daemon.pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) * 10  # ticks of 1/100 s


def told_that_fds_are_missing(c: Client) -> bool:
    error = c.wait_error(None)
    c.wait_closed()
    return (error.code, "file descriptor" in error.message) == ("overloaded", True)


@needs_root
def test_fault_23_without_fds_accepting_pauses_and_nothing_spins(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, **OPEN)
    window = 1.5
    with ExitStack() as stack, daemon.client() as c, no_fds_left(daemon):
        waiting = stack.enter_context(client_of(daemon, ALICE, framing="bare", hello=False))
        daemon.wait_log(r"listener\.paused")
        began, woken, cpu = time.monotonic(), wakeups(daemon), cpu_ms(daemon)
        lines = daemon.log().count("listener.paused")
        assert waiting.is_silent(0.7 / SLOW), "there may be fds again soon"
        assert told_that_fds_are_missing(waiting)
        stack.enter_context(client_of(daemon, ALICE, framing="bare", hello=False))
        assert not select.select([], [], [], window)[0]
        woken, cpu = wakeups(daemon) - woken, cpu_ms(daemon) - cpu
        lines = daemon.log().count("listener.paused") - lines
        seconds = time.monotonic() - began
        assert woken <= 12 * seconds + 5, f"{woken} wake-ups in {seconds} s"
        assert cpu <= 20 * seconds + 10, f"{cpu} ms of CPU in {seconds} s"
        assert 0 < lines <= 12 * seconds + 1
        assert [c.execute("echo", n) for n in range(50)] == list(range(50)), "who is connected is served"


@needs_root
def test_fault_23_who_waited_is_served_when_there_are_fds_again(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, **OPEN)
    with daemon.client() as c:
        with no_fds_left(daemon):
            waiting = client_of(daemon, ALICE, hello=False)
            number = waiting.start_execute("echo", "waited")
            daemon.wait_log(r"listener\.paused")
            assert c.call("ping") == "pong"
        with waiting:
            assert waiting.wait(number).value() == "waited"


@needs_root
def test_fault_114_without_fds_admins_get_in_behind_a_crowd_that_waits(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, **OPEN)
    with ExitStack() as stack, no_fds_left(daemon):
        crowd = [stack.enter_context(client_of(daemon, ALICE, framing="bare", hello=False)) for _ in range(100)]
        assert daemon.ctl("status").returncode == 0
        assert all(told_that_fds_are_missing(c) for c in crowd)
        admins = [stack.enter_context(daemon.client()) for _ in range(8)]
        assert all(c.execute("echo", 1) == 1 for c in admins)
        one_more = stack.enter_context(daemon.client(hello=False))
        one_more.start("ping")
        assert one_more.is_silent(0.5), "8 are kept"
        admins[0].close()
        assert one_more.wait_any().result == "pong", "and used again"


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"])
def test_fault_23_accepting_pauses_for_whatever_the_kernel_lacks_and_goes_on(daemon: Daemon, error: str) -> None:
    window = 1.0
    with daemon.client() as c, failing(daemon, "accept4", error, "1+"):
        waiting = daemon.client(hello=False)
        number = waiting.start_execute("echo", "waited")
        daemon.wait_log(rf"listener\.paused .*errno={getattr(errno, error)}\b")
        began, lines = time.monotonic(), daemon.log().count("listener.paused")
        assert waiting.is_silent(window)
        lines = daemon.log().count("listener.paused") - lines
        assert 0 < lines <= 12 * (time.monotonic() - began) + 1, "it tries again, but not in a loop"
        assert [c.execute("echo", n) for n in range(50)] == list(range(50)), "who is connected is served"
    with waiting:
        assert waiting.wait(number).value() == "waited"


@pytest.mark.parametrize("error", ["ECONNABORTED", "EINTR"])
def test_accepting_does_not_pause_for_what_is_over_at_once(daemon: Daemon, error: str) -> None:
    with failing(daemon, "accept4", error, 1), daemon.client() as c:
        assert c.call("ping") == "pong"
    assert "listener.paused" not in daemon.log()


def test_fault_23_a_half_closed_client_gets_its_replies_without_an_fd(daemon: Daemon) -> None:
    with daemon.client() as c, no_fds_left(daemon):
        number = c.start_execute("sleep", 0.1)
        c.shutdown_write()
        assert c.wait(number).value() == 0.1


@needs_root
def test_fault_23_a_daemon_without_fds_can_be_stopped(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, **OPEN)
    with no_fds_left(daemon), client_of(daemon, ALICE, hello=False):
        daemon.wait_log(r"listener\.paused")
        daemon.stop(quiet=False)
