"""How the daemon begins, ends and keeps its head: signals, socket, systemd, clock, configuration, log."""

from __future__ import annotations

import collections
import fcntl
import json
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import BUILD, DEMO, SLOW, Daemon, pool
from tests.support.waiting import eventually

Start = Callable[..., Daemon]


@pytest.fixture
def daemon(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 2)})


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name that outlives its daemon. Ask for it before start_daemon."""
    path = Path(tempfile.mkdtemp(prefix="pypool-"))
    yield path
    shutil.rmtree(path)


def calls(observer: Client, key: str) -> int:
    return int(observer.call("status")["calls"][key])


def state_of_first_pool(observer: Client) -> str:
    return str(observer.call("status")["pools"][0]["state"])


def check_end(daemon: Daemon, status: int, timeout: float = 10.0) -> None:
    """It ends by itself with that status, and leaves no process behind."""
    family = procfs.descendants(daemon.pid)
    assert daemon.wait(timeout) == status, daemon.log_end()
    daemon.check_gone(family)


def through_shell(words: str) -> list[str]:
    """A prefix: what bash does with its own fds and environment before it becomes the daemon."""
    return ["/bin/bash", "-c", f'{words} exec "$@"', "bash"]


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_89_at_sigterm_running_calls_finish_and_queued_ones_are_never_run(
    daemon: Daemon, number: int, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        running = [c.start_execute("sleep", 0.4) for _ in range(2)]
        queued = [c.start_execute("append_line", str(ledger), "ran") for _ in range(20)]
        eventually(lambda: (calls(c, "running"), calls(c, "queued")) == (2, 20), "all workers are busy")
        daemon.signal(number)
        for n in queued:
            error = c.wait_error(n)
            assert (error.code, error.executed) == ("draining", "never")
        late = c.fail_execute("echo", 1)
        assert (late.code, late.executed) == ("draining", "never")
        assert c.call("status")["state"] == "draining"
        assert [c.wait(n).value() for n in running] == [0.4, 0.4]
        c.wait_closed()
    check_end(daemon, 0)
    assert not ledger.exists() and not daemon.socket.exists()


def test_fault_89_a_second_sigterm_does_not_wait(daemon: Daemon) -> None:
    with daemon.client() as c:
        stubborn, sleeping = c.start_execute("ignore_term_forever"), c.start_execute("sleep", 60)
        eventually(lambda: calls(c, "running") == 2, "both run")
        daemon.signal(signal.SIGTERM)
        daemon.wait_log(r"daemon\.draining")
        assert calls(c, "running") == 2, "the first one waits"
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        for n in (stubborn, sleeping):
            error = c.wait_error(n)
            assert (error.code, error.executed) == ("cancelled", "maybe")
        check_end(daemon, 0)
        assert time.monotonic() - began < 2 * SLOW


def test_fault_89_after_the_drain_timeout_it_does_not_wait_either(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, drain_timeout="200ms")
    with daemon.client() as c:
        number = c.start_execute("sleep", 60)
        eventually(lambda: calls(c, "running") == 1, "it runs")
        daemon.signal(signal.SIGTERM)
        assert c.wait_error(number).code == "cancelled"
        check_end(daemon, 0)


def test_fault_89_workers_that_still_start_do_not_hold_up_the_end(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("hangs_in_import")}, ready=False)
    daemon.wait_log(r"state=initializing")
    daemon.signal(signal.SIGTERM)
    check_end(daemon, 0, 5)


def test_sighup_is_no_reason_to_die(daemon: Daemon) -> None:
    with daemon.client() as c:
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(r"daemon\.reload")
        assert c.execute("echo", 1) == 1


def test_fault_90_workers_follow_a_daemon_that_was_killed(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 4), "slow": pool("hangs_in_import", 1)}, ready=False)
    daemon.wait_log(r"listener\.open")
    with daemon.client() as c:
        eventually(lambda: state_of_first_pool(c) == "serving", "the pool serves", 30)
        c.start_execute("busy_c", 30)
        c.start_execute("sleep", 60)
        c.start_execute("ignore_term_forever")
        eventually(lambda: calls(c, "running") == 3, "three are busy, one is idle, one still starts")
        daemon.wait_log(r"worker\.state pool=slow .*state=initializing")
        assert len(procfs.children(daemon.pid)) == 5
        daemon.kill()


# ---- the socket


def test_fault_91_a_second_daemon_on_the_same_socket_refuses(daemon: Daemon, start_daemon: Start) -> None:
    with daemon.client() as c:
        number = c.start_execute("sleep", 0.3)
        second = start_daemon(arguments=["--config", str(daemon.config)], ready=False)
        assert second.wait() == 1
        second.wait_log(rf"listener\.failed .*another pypoold is listening on {daemon.socket}")
        assert c.wait(number).value() == 0.3
    with daemon.client() as c:
        assert c.execute("echo", 1) == 1, "the first one is still there for new clients"


def test_fault_92_the_socket_of_a_killed_daemon_is_replaced(place: Path, start_daemon: Start) -> None:
    first = start_daemon({"default": pool("nasty", 1)}, directory=place)
    first.kill()
    first.check_log()
    first.discard()
    assert first.socket.is_socket()
    second = start_daemon({"default": pool("nasty", 1)}, directory=place)
    with second.client() as c:
        assert c.execute("echo", 1) == 1
    second.stop()


def bind(path: Path) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(str(path))
    return s


def put_file(path: Path) -> None:
    path.write_text("precious")


def put_symlink(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to(path.with_name("target"))


def put_symlink_to_stale_socket(path: Path) -> None:
    bind(path.with_name("target")).close()
    path.symlink_to(path.with_name("target"))


def put_foreign_socket(path: Path) -> None:
    bind(path).close()
    os.chown(path, 65534, 65534)


OBSTACLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "file": (put_file, "no socket"),
    "directory": (Path.mkdir, "no socket"),
    "symlink": (put_symlink, "no socket"),
    "symlink_to_a_stale_socket": (put_symlink_to_stale_socket, "no socket"),
    "stale_socket_of_someone_else": (put_foreign_socket, "another user"),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_fault_92_what_is_not_our_own_stale_socket_stays(place: Path, start_daemon: Start, what: str) -> None:
    put, reason = OBSTACLES[what]
    if "someone" in what and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = place / "pypoold.sock"
    put(path)
    before = path.lstat()
    daemon = start_daemon({"default": DEMO}, directory=place, ready=False)
    assert daemon.wait() == 1
    daemon.wait_log(rf"listener\.failed .*{reason}")
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)


def test_fault_92_the_socket_of_another_living_program_stays(place: Path, start_daemon: Start) -> None:
    with bind(place / "pypoold.sock") as other:
        other.listen(5)
        daemon = start_daemon({"default": DEMO}, directory=place, ready=False)
        assert daemon.wait() == 1
        daemon.wait_log(r"listener\.failed .*another program is listening")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as c:
            c.connect(str(place / "pypoold.sock"))


def test_fault_92_a_daemon_removes_its_own_socket_only(daemon: Daemon) -> None:
    daemon.socket.unlink()
    with bind(daemon.socket):
        daemon.signal(signal.SIGTERM)
        check_end(daemon, 0)
        assert daemon.socket.is_socket(), "another's by now"


# ---- the configuration


def check_config(place: Path, text: bytes) -> tuple[int, str, Path]:
    file = place / "pypoold.conf"
    file.write_bytes(text)
    command = [str(BUILD / "pypoold"), "--check", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * SLOW, check=False)
    return done.returncode, done.stderr, file


def with_pool(line: str) -> bytes:
    """A configuration with that line in a pool: it is the third."""
    return f'pool "default" {{\n  app = "a"\n  {line}\n}}\n'.encode()


GOOD = with_pool("")
BAD: dict[str, tuple[bytes, int, str]] = {
    "unknown_key": (with_pool("min_wrokers = 2"), 3, "min_workers"),
    "unknown_key_outside": (b"sokcet = /x\n" + GOOD, 1, "socket"),
    "10k5": (with_pool('max_reply = "10k5"'), 3, "max_reply"),
    "duration_without_unit": (with_pool("call_timeout = 30"), 3, "ms, s, m or h"),
    "duration_overflow": (with_pool('call_timeout = "99999999999999999999h"'), 3, "call_timeout"),
    "duration_overflow_by_its_unit": (with_pool('call_timeout = "18446744073709551h"'), 3, "call_timeout"),
    "size_overflow": (with_pool('max_reply = "17179869185G"'), 3, "max_reply"),
    "count_overflow": (with_pool("max_queue = 18446744073709551617"), 3, "max_queue"),
    "fault_109_count_of_-1": (with_pool("max_queue = -1"), 3, "max_queue"),
    "fault_109_duration_of_-1s": (with_pool('call_timeout = "-1s"'), 3, "call_timeout"),
    "fault_109_no_workers": (with_pool("max_workers = 0"), 3, "max_workers"),
    "byte_order_mark": (b"\xef\xbb\xbf" + GOOD, 1, "byte order mark"),
    "include_of_itself": (b'include("pypoold.conf")\n' + GOOD, 1, "conf.d"),
    "key_twice": (with_pool("max_queue = 1\n  max_queue = 2"), 4, "max_queue"),
    "pool_twice": (GOOD + b'pool "default" {\n app = "b"\n}\n', 5, "default"),
    "never_closed": (b'pool "default" {\n  app = "a"\n', 1, ""),
    "NUL": (with_pool("max_queue = 1\x00"), 3, ""),
    "no_app": (b'pool "default" {\n}\n', 1, "app"),
}


@pytest.mark.parametrize("what", BAD)
def test_fault_108_a_wrong_configuration_is_exit_78_with_file_and_line(place: Path, what: str) -> None:
    text, line, word = BAD[what]
    status, said, file = check_config(place, text)
    assert status == 78, said
    assert re.search(rf"^{file}:{line}: .*{re.escape(word)}", said, re.MULTILINE), said
    assert len(said) < 2000 and all(c.isprintable() or c == "\n" for c in said)


ZERO_MEANS_NO_LIMIT = ["call_timeout", "queue_timeout", "init_timeout", "max_queue", "max_timeout", "limit_as"]


def test_fault_109_zero_switches_a_limit_off(place: Path) -> None:
    status, said, _ = check_config(place, with_pool("\n  ".join(f"{key} = 0" for key in ZERO_MEANS_NO_LIMIT)))
    assert (status, said) == (0, "")


def test_fault_108_the_daemon_does_not_start_with_it(start_daemon: Start) -> None:
    daemon = start_daemon(text='socket = "{socket}"\npool "default" {\n  app = "a"\n  nope = 1\n}\n', ready=False)
    assert daemon.wait() == 78
    daemon.wait_log(rf"^{daemon.config}:4: ")
    assert not daemon.socket.exists()


def test_fault_93_a_socket_path_over_107_bytes_is_a_configuration_error(place: Path) -> None:
    for length, expected in ((108, 78), (107, 0)):
        path = "/" + "s" * (length - 1)
        status, said, file = check_config(place, f'socket = "{path}"\n'.encode() + GOOD)
        assert status == expected, said
        if expected:
            assert re.search(rf"^{file}:1: .*107", said, re.MULTILINE), said


# ---- systemd


def test_fault_94_ready_comes_when_every_pool_has_settled(start_daemon: Start) -> None:
    slow = pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=0.7"])
    daemon = start_daemon({"fast": pool("nasty", 1), "slow": slow}, ready=False)
    daemon.wait_log(r"listener\.open")
    with daemon.client() as c:
        eventually(lambda: state_of_first_pool(c) == "serving", "the fast one serves", 20)
        assert c.execute("echo", 1, pool="fast") == 1, "it serves already"
        status = c.call("status")
        assert (status["state"], status["pools"][1]["state"]) == ("starting", "starting")
        assert daemon.notify.find("READY") is None
        daemon.wait_ready()
        status = c.call("status")
        assert (status["state"], status["pools"][1]["state"]) == ("running", "serving")
    daemon.take_baseline()
    assert daemon.notify.values("READY") == ["1"]


def test_fault_94_a_degraded_pool_is_named_and_does_not_hold_up_the_others(start_daemon: Start) -> None:
    daemon = start_daemon({"good": pool("nasty", 1), "bad": pool("import_error", 1)})
    status = daemon.notify.values("STATUS")[-1]
    assert "1 of 2 workers serving" in status
    assert "degraded: bad" in status and "a_module_that_does_not_exist" in status and "good" not in status
    with daemon.client() as c:
        assert c.execute("echo", 1, pool="good") == 1
        assert c.fail_execute("echo", 1, pool="bad").code == "init_failed"
    daemon.baseline_fds.clear()  # its fds come and go with the attempts of the bad pool


def test_fault_94_require_all_is_strict(start_daemon: Start) -> None:
    daemon = start_daemon({"good": pool("nasty", 1), "bad": pool("import_error", 1)}, require_all=True, ready=False)
    check_end(daemon, 1, 20)
    daemon.wait_log(r"daemon\.require_all pool=bad .*a_module_that_does_not_exist")
    assert daemon.notify.find("READY") is None


def test_fault_94_the_watchdog_is_fed_by_the_loop(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, environment={"WATCHDOG_USEC": "200000"})

    def pings() -> int:
        return len(daemon.notify.values("WATCHDOG"))

    assert daemon.notify.wait(lambda: pings() >= 5, 5), "one each 100 ms"
    daemon.signal(signal.SIGSTOP)
    eventually(lambda: procfs.process(daemon.pid).state == "T", "it stands")  # type: ignore[union-attr]
    daemon.notify.wait(lambda: False, 0.05)  # what was under way has come
    stopped = pings()
    assert not daemon.notify.wait(lambda: pings() > stopped, 0.4), "a loop that hangs feeds nothing"
    daemon.signal(signal.SIGCONT)
    assert daemon.notify.wait(lambda: pings() > stopped, 5)


def test_fault_94_a_watchdog_for_another_process_is_not_ours(start_daemon: Start) -> None:
    environment = {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
    daemon = start_daemon({"default": pool("nasty", 1)}, environment=environment)
    assert daemon.notify.find("WATCHDOG") is None


WRONG_FDS = {
    "not_a_number": ("export LISTEN_PID=$$ LISTEN_FDS=three;", "LISTEN_FDS"),
    "negative": ("export LISTEN_PID=$$ LISTEN_FDS=-1;", "LISTEN_FDS"),
    "not_open": ("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3>&-;", "LISTEN_FDS"),
    "a_file": ("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</etc/passwd;", "not a listening"),
    "names_of_more": ("export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b; exec 3</dev/null;", "LISTEN_FDNAMES"),
}


@pytest.mark.parametrize("what", WRONG_FDS)
def test_fault_95_wrong_listen_fds_are_a_clear_exit(start_daemon: Start, what: str) -> None:
    words, reason = WRONG_FDS[what]
    daemon = start_daemon({"default": DEMO}, prefix=through_shell(words), ready=False)
    assert daemon.wait() == 1
    daemon.wait_log(rf"error listener\.failed .*{reason}")
    assert not daemon.socket.exists()


@pytest.mark.parametrize("kind", ["a_connected_socket", "two_sockets"])
def test_fault_95_sockets_that_do_not_fit_are_a_clear_exit(place: Path, start_daemon: Start, kind: str) -> None:
    with bind(place / "one") as one, bind(place / "two") as two:
        one.listen(5)
        if kind == "two_sockets":
            two.listen(5)
            words, reason = f"exec 3<&{one.fileno()} 4<&{two.fileno()}; export LISTEN_FDS=2", "more than one"
        else:
            two.connect(str(place / "one"))
            words, reason = f"exec 3<&{two.fileno()}; export LISTEN_FDS=1", "not a listening"
        prefix = through_shell(f"{words} LISTEN_PID=$$;")
        pass_fds = (one.fileno(), two.fileno())
        daemon = start_daemon({"default": DEMO}, prefix=prefix, pass_fds=pass_fds, ready=False)
        assert daemon.wait() == 1
        daemon.wait_log(rf"error listener\.failed .*{reason}")


def test_fault_95_listen_fds_for_another_process_are_not_ours(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, environment={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert daemon.socket.is_socket()


def test_a_socket_passed_by_systemd_is_served_and_left_there(place: Path, start_daemon: Start) -> None:
    with bind(place / "pypoold.sock") as listening:
        listening.listen(100)
        early = Client(place / "pypoold.sock", hello=False)  # before there is a daemon, as socket activation is meant
        number = early.start_execute("echo", "early")
        words = f"exec 3<&{listening.fileno()} {listening.fileno()}<&-; export LISTEN_FDS=1 LISTEN_PID=$$;"
        daemon = start_daemon(
            {"default": pool("nasty", 1)},
            prefix=through_shell(words),
            pass_fds=(listening.fileno(),),
            directory=place,
            ready=False,
        )
        with early:
            assert early.wait(number).value() == "early"
        daemon.wait_ready()
        with daemon.client() as c:
            assert c.execute("echo", 1) == 1
            for variable in ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"):
                (worker,) = procfs.children(daemon.pid)
                assert variable not in Path(f"/proc/{worker.pid}/environ").read_text()
        daemon.check_quiet()
        daemon.signal(signal.SIGTERM)
        check_end(daemon, 0)
        assert (place / "pypoold.sock").is_socket(), "it is systemd's"


# ---- time

CLOCK_SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void start(void)
{
	int fd = open(getenv("CLOCK_SHIFT"), O_RDONLY | O_CLOEXEC);
	void *p = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		abort();
	close(fd);
	shift = p;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, id, ts);

	if (r == 0 && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *shift;
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void)tz;
	if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
		return -1;
	*tv = (struct timeval){ .tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000 };
	return 0;
}

time_t time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
"""


class WallClock:
    """The wall clock of a daemon, which can be set: its other clocks are not touched."""

    def __init__(self, place: Path) -> None:
        library, source, shift = place / "clock.so", place / "clock.c", place / "clock.shift"
        source.write_text(CLOCK_SHIM)
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run([*compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        shift.write_bytes(bytes(8))
        self._file = open(shift, "r+b")
        self._map = mmap.mmap(self._file.fileno(), 8)
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift), "ASAN_OPTIONS": asan}

    def shift(self, seconds: int) -> None:
        self._map[:] = struct.pack("=q", seconds)

    def close(self) -> None:
        self._map.close()
        self._file.close()


@pytest.fixture
def wall_clock(place: Path) -> Iterator[WallClock]:
    clock = WallClock(place)
    yield clock
    clock.close()


DAY = 24 * 3600


def last_day_in_log(daemon: Daemon) -> str:
    return daemon.log().splitlines()[-1][:10]


def check_timeouts_in_flight(daemon: Daemon, jump: Callable[[], None]) -> None:
    """The clock jumps while a call runs, one waits, one has a lease and one is to be timed out."""
    with daemon.client() as c, daemon.client() as holder:
        lease = holder.call("checkout", type="anonymous", ttl_ms=20_000)["lease"]
        running = c.start_execute("sleep", 0.4, timeout_ms=20_000)
        waiting = c.start_execute("echo", 1, timeout_ms=20_000, queue_timeout_ms=20_000)
        late = holder.start_execute("sleep", 60, lease=lease, timeout_ms=500)
        eventually(lambda: (calls(c, "running"), calls(c, "queued")) == (2, 1), "all is under way")
        began = time.monotonic()
        jump()
        assert c.wait(running).value() == 0.4
        assert c.wait(waiting).value() == 1
        error = holder.wait_error(late)
        assert error.code == "deadline_exceeded"
        assert 0.1 < time.monotonic() - began < 5 * SLOW
        assert c.execute("echo", 2) == 2


@pytest.mark.parametrize("days", [1, -1])
def test_fault_103_a_wall_clock_that_jumps_a_day_changes_nothing(
    wall_clock: WallClock, start_daemon: Start, days: int
) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, environment=wall_clock.environment)
    check_timeouts_in_flight(daemon, lambda: wall_clock.shift(days * DAY))
    expected = time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * DAY))
    assert last_day_in_log(daemon) == expected, "the daemon did not see the jump"
    assert daemon.status()["uptime_ms"] < 600_000


def stand_still(daemon: Daemon, client: Client, seconds: float) -> None:
    """The daemon is stopped that long."""
    daemon.signal(signal.SIGSTOP)
    assert client.is_silent(seconds)
    daemon.signal(signal.SIGCONT)


def test_fault_104_replies_that_lie_ready_win_over_expired_timers(daemon: Daemon) -> None:
    with daemon.client() as c:
        workers = [w["pid"] for w in c.call("workers")]
        numbers = [c.start_execute("sleep", 0.3, timeout_ms=1000, queue_timeout_ms=1000) for _ in range(2)]
        eventually(lambda: calls(c, "running") == 2, "both run")
        stand_still(daemon, c, 2.0)
        assert [c.wait(n).value() for n in numbers] == [0.3, 0.3]
        assert [w["pid"] for w in c.call("workers") if w["state"] == "idle"] == workers, "nobody was killed"
        assert c.call("status")["pools"][0]["last_failure"] is None
    assert "reason=deadline" not in daemon.log()


def test_fault_104_a_worker_that_became_ready_meanwhile_is_not_late(start_daemon: Start) -> None:
    slow = pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=0.5"], init_timeout="1500ms")
    daemon = start_daemon({"default": slow}, ready=False)
    daemon.wait_log(r"state=initializing")
    daemon.signal(signal.SIGSTOP)
    assert not daemon.notify.wait(lambda: daemon.notify.find("READY") is not None, 2.0)
    daemon.signal(signal.SIGCONT)
    daemon.wait_ready()
    with daemon.client() as c:
        (only,) = c.call("workers")
        assert (only["worker"], only["state"]) == (1, "idle"), only
        assert c.execute("echo", 1) == 1


def test_fault_104_a_frame_that_was_finished_meanwhile_is_not_late(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, frame_timeout="500ms")
    with daemon.client() as observer, daemon.client(hello=False) as c:
        frame = c.frame(b"\x94\x00\x07\xa4ping\x90")
        c.send_bytes(frame[:8])
        eventually(lambda: 8 in [int(x["bytes_in"]) for x in observer.call("clients")], "the first part is read")
        daemon.signal(signal.SIGSTOP)
        c.send_bytes(frame[8:])
        assert c.is_silent(1.0)
        daemon.signal(signal.SIGCONT)
        assert c.wait(7).value() == "pong"


def test_fault_105_completion_and_deadline_in_one_tick_have_one_outcome(daemon: Daemon) -> None:
    rounds = 30
    outcomes: collections.Counter[str] = collections.Counter()
    with daemon.client() as c:
        for n in range(rounds):
            pair = [c.start_execute("sleep", 0.03, timeout_ms=30 + n % 4) for _ in range(2)]
            for number in pair:
                reply = c.wait(number)
                outcomes[reply.error["code"] if reply.error else "value"] += 1
        assert c.call("ping") == "pong"
        assert set(outcomes) <= {"value", "deadline_exceeded"}
        assert sum(outcomes.values()) == 2 * rounds
        assert max(collections.Counter(c.order).values()) == 1, "one reply each"
        eventually(lambda: calls(c, "running") == 0, "all are over")
        done = c.call("status")["calls"]
        assert done["completed"] == outcomes["value"] and done["failed"] == outcomes["deadline_exceeded"]
        assert c.execute("echo", 1) == 1


# ---- the log


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe in which there is no room."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ if hasattr(fcntl, "F_SETPIPE_SZ") else 1031, 4096)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:  # the test has closed it
            pass


def check_serves_without_a_log(daemon: Daemon) -> None:
    with daemon.client() as c:
        numbers = [c.start_execute("echo", n) for n in range(300)]
        assert [c.wait(n).value() for n in numbers] == list(range(300))
        status = c.call("status")
        assert status["log_dropped"] >= 300, "what was lost is counted"
        assert status["worst_stall_us"] < 500_000 * SLOW


def test_fault_118_a_log_that_nobody_reads_never_blocks_the_loop(
    full_pipe: tuple[int, int], start_daemon: Start
) -> None:
    reader, writer = full_pipe
    prefix = through_shell(f"exec 2>&{writer} {writer}>&-;")
    daemon = start_daemon({"default": pool("nasty", 2)}, prefix=prefix, pass_fds=(writer,))
    check_serves_without_a_log(daemon)
    assert len(os.read(reader, 1 << 16)) == 4096  # there is room again
    with daemon.client() as c:
        assert c.execute("echo", 1) == 1
    text = os.read(reader, 1 << 16).decode()
    assert re.search(r"^\S+ warn(ing)? log\.dropped n=\d{3,}$", text, re.MULTILINE), text
    assert text.index("log.dropped") < text.index("client.new")


@pytest.mark.parametrize("sink", ["/dev/full", "a_pipe_without_a_reader"])
def test_fault_118_a_log_that_cannot_be_written_is_no_reason_to_stop(
    full_pipe: tuple[int, int], start_daemon: Start, sink: str
) -> None:
    reader, writer = full_pipe
    os.close(reader)
    words = "exec 2>/dev/full;" if sink == "/dev/full" else f"exec 2>&{writer};"
    daemon = start_daemon({"default": pool("nasty", 2)}, prefix=through_shell(words), pass_fds=(writer,))
    check_serves_without_a_log(daemon)


def test_standard_fds_that_are_closed_become_nobody_elses(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)}, prefix=through_shell("exec <&- >&- 2>&-;"))
    assert [procfs.fds(daemon.pid)[n] for n in range(3)] == ["/dev/null"] * 3
    with daemon.client() as c:
        assert c.execute("print_then", 1) == 1
    daemon.stop()


HOSTILE_APP = r'''
import sys
sys.stderr.write("\x1b[2J2026-01-01T00:00:00.000Z info daemon.forged code=0\r\n\x00\xff\n")
raise RuntimeError("one\n2026-01-01T00:00:00.000Z info daemon.forged code=0\x1b[31m\r\x07\u2028\u009b1m")
'''
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) [a-z_.]+( \w+=.*)?")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_fault_119_newlines_and_escapes_in_log_data_leave_one_record_per_event(
    start_daemon: Start, tmp_path: Path, log_format: str
) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE_APP)
    pools = {"good": pool("nasty", 1), "bad": pool("hostile", 1, path=[str(tmp_path)])}
    daemon = start_daemon(pools, log_format=log_format)
    daemon.baseline_fds.clear()  # its fds come and go with the attempts of the bad pool
    with daemon.client() as c:
        assert c.execute("print_then", "a\x1b[0m", pool="good") == "a\x1b[0m"
        assert "one" in c.fail_execute("echo", 1, pool="bad").message
    daemon.wait_log(r"worker\.init_failed")
    daemon.stop()
    text = daemon.log()
    assert "daemon.forged" in text, "the event itself must be there"
    assert all(c == "\n" or c.isprintable() for c in text), "no control characters"
    for line in text.splitlines():
        if log_format == "json":
            record = json.loads(line)
            assert isinstance(record, dict) and "daemon.forged" not in record.get("event", "")
        else:
            assert LINE.fullmatch(line), line
            assert not line.split()[2].startswith("daemon.forged"), line


CANARY = "canary-7Qx1"
SECRETIVE_APP = '''
import os, time
from pypool_worker import expose

@expose
def echo(secret): return secret
@expose
def sleep(secret): time.sleep(60)
@expose
def die(secret): os.kill(os.getpid(), 11)
@expose
def leave(secret): os._exit(3)
@expose
def refuse(secret): raise ValueError("no")
@expose
def unserializable(secret): return {secret}
'''


def test_fault_121_arguments_never_appear_in_the_log(start_daemon: Start, tmp_path: Path) -> None:
    (tmp_path / "secretive.py").write_text(SECRETIVE_APP)
    pools = {"default": pool("secretive", 2, path=[str(tmp_path)], cancel_grace="200ms")}
    daemon = start_daemon(pools, max_frame="64K")
    codes = []
    with daemon.client() as c:
        assert c.execute("echo", CANARY) == CANARY
        assert c.execute("echo", kw={"secret": {CANARY: CANARY}}) == {CANARY: CANARY}
        for target in ("refuse", "unserializable", "die", "leave", "nobody"):
            codes.append(c.fail_execute(target, CANARY).code)
        codes.append(c.fail_execute("sleep", CANARY, timeout_ms=100).code)
        codes.append(c.fail("execute", target="echo", args=CANARY).code)
        codes.append(c.fail("execute", target="echo", args=[CANARY], timeout_ms=CANARY).code)
        number = c.start_execute("sleep", CANARY)
        assert eventually(lambda: bool(c.call("cancel", id=number)), "it is there")
        codes.append(c.wait_error(number).code)
        c.start_execute("sleep", CANARY)
        execute = b"\x94\x00\x07\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x91"
        c.send_bytes(c.frame(execute + CANARY.encode() + b"\xc1"))
        codes.append(c.wait_error(None).code)
    assert codes == [
        "app_error", "unserializable", "worker_died", "worker_died", "unknown_target", "deadline_exceeded",
        "bad_request", "bad_request", "cancelled", "bad_msgpack",
    ]  # fmt: skip
    daemon.stop()
    assert "target=unserializable" in daemon.log(), "the calls themselves are in it"
    assert CANARY not in daemon.log()
    assert not any(CANARY in line for line in daemon.notify.values("STATUS"))
