"""What a clock that jumps and a daemon that stood still change: nothing."""

from __future__ import annotations

import collections
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.waiting import eventually
from tests.support.daemon_life import Start, calls


@pytest.fixture
def daemon(start_daemon: Start) -> Daemon:
    return start_daemon({"default": pool("nasty", 2)})


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
        running = c.start_execute("sleep", 1.0, timeout_ms=20_000)
        waiting = c.start_execute("echo", 1, timeout_ms=20_000, queue_timeout_ms=20_000)
        late = holder.start_execute("sleep", 60, lease=lease, timeout_ms=1500)
        eventually(lambda: (calls(c, "running"), calls(c, "queued")) == (2, 1), "all is under way")
        began = time.monotonic()
        jump()
        assert c.wait(running).value() == 1.0
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
    daemon = start_daemon({"default": pool("nasty", 1)}, frame_timeout="1s")
    with daemon.client() as observer, daemon.client(hello=False) as c:
        frame = c.frame(b"\x94\x00\x07\xa4ping\x90")
        c.send_bytes(frame[:8])
        eventually(lambda: 8 in [int(x["bytes_in"]) for x in observer.call("clients")], "the first part is read")
        daemon.signal(signal.SIGSTOP)
        c.send_bytes(frame[8:])
        assert c.is_silent(1.5)
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
