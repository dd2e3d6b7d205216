"""pypoolctl top: rates between two looks, workers in their order, and a terminal that is left as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.support.daemon import BUILD, DEMO, SLOW, Daemon, pool
from tests.support.following import Following
from tests.support.scenes import wait_queued, wait_running
from tests.support.users import BOB, OPEN, needs_root, reachable
from tests.support.waiting import eventually

Start = Callable[..., Daemon]

ENTER, LEAVE, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"


def tables(text: str) -> list[list[list[str]]]:
    """What is between empty lines, as words."""
    return [[line.split() for line in block.splitlines()] for block in text.strip().split("\n\n")]


def test_one_look_shows_pools_busy_workers_first_and_what_waits(start_daemon: Start) -> None:
    daemon = start_daemon({"default": DEMO, "slow": pool("nasty", 1)})
    with daemon.client() as c:
        calls = [c.start_execute("sleep", 60, pool="slow") for _ in range(3)]
        wait_queued(c, 2)
        with Following(daemon, "top", "--once", "-d", "0.3", subscribed=False) as top:
            while top.process.poll() is None:
                c.execute("echo", 1, pool="default")
            status, out, err = top.end()
        assert (status, err) == (0, "")
        head, pools, workers, queue = tables(out)
        assert " ".join(head[0]).startswith("pypoold ") and "running," in head[0]
        assert pools[0][:8] == ["POOL", "STATE", "IDLE", "BUSY", "INIT", "QUEUED", "RUNNING", "CALLS/S"]
        rows = {row[0]: row for row in pools[1:]}
        assert float(rows["default"][7]) > 10 and float(rows["slow"][7]) == 0
        assert rows["slow"][1:7] == ["serving", "0", "1", "0", "2", "1"]
        assert workers[1][1] == "slow" and workers[1][-2] == "sleep", "the busy one is first"
        rates = [float(row[5]) for row in workers[2:]]
        assert rates == sorted(rates, reverse=True) and rates[0] > 10
        assert queue[0][0] == "CALL" and [row[1] for row in queue[1:] if row[1] != "default"] == ["slow", "slow"]
        for call in calls:
            c.call("cancel", id=call)


def test_rates_are_those_of_the_time_between_the_looks(daemon: Daemon) -> None:
    with daemon.client() as c, Following(daemon, "top", "--json", "-d", "0.2", subscribed=False) as top:
        first = top.object()
        for _ in range(100):
            c.execute("echo", 1)
        samples = [top.object()]
        while samples[-1]["pools"][0]["completed"] < first["pools"][0]["completed"] + 100:
            samples.append(top.object())
        samples.append(top.object())
        done = sum(s["pools"][0]["calls_per_s"] * s["interval_ms"] / 1000 for s in samples)
        of_workers = sum(w["calls_per_s"] * s["interval_ms"] / 1000 for s in samples for w in s["workers"])
        assert round(done) == round(of_workers) == 100
        assert samples[-1]["pools"][0]["calls_per_s"] == 0
        assert all(s["interval_ms"] >= 200 for s in samples)
        assert set(first) == {"time_ms", "interval_ms", "status", "pools", "workers", "queue"}
        assert first["status"]["pid"] == daemon.pid
        assert top.stop()[0] == 0


def test_as_many_looks_as_were_asked_for_and_no_dead_worker(start_daemon: Start) -> None:
    daemon = start_daemon({"a": DEMO, "b": DEMO})
    with daemon.client() as c:
        c.call("worker.kill", worker=1)
        eventually(lambda: any(w["state"] == "dead" for w in c.call("workers")), "it is dead")
        shown = daemon.ctl("top", "-n", "2", "-d", "0.05", "--pool", "a")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.count("\nPOOL ") == shown.stdout.count("\nWORKER ") == 2
        assert "dead" not in shown.stdout and " b " not in shown.stdout


def test_what_is_no_interval_and_no_number_is_refused(daemon: Daemon) -> None:
    for arguments in (["-d", "0"], ["-d", "x"], ["-d", "nan"], ["-d", "1e9"], ["-n", "0"], ["-n", "-1"], ["now"]):
        done = daemon.ctl("top", *arguments)
        assert done.returncode == 2 and "Usage: pypoolctl top" in done.stderr, arguments
    assert daemon.ctl("top", "--once", "-d", "0.01", "--pool", "none").returncode == 1
    assert daemon.ctl("--socket", "/nonexistent/socket", "top").returncode == 3


@needs_root
def test_who_may_observe_one_pool_sees_that_one(start_daemon: Start) -> None:
    access = {"one": {"uid": [str(BOB)], "role": "observe", "pools": ["b"]}}
    daemon = start_daemon({"a": DEMO, "b": DEMO}, access=access, **OPEN)
    os.chmod(daemon.socket.parent, 0o755)
    with daemon.client() as c:
        c.execute("echo", 1, pool="a")
    command = [str(reachable().build / "pypoolctl"), "--socket", str(daemon.socket), "top", "--once", "-d", "0.01"]
    shown = subprocess.run(command, user=BOB, group=BOB, extra_groups=[], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    pools, workers = tables(shown.stdout)
    assert [row[0] for row in pools[1:]] == ["b"] and {row[1] for row in workers[1:]} == {"b"}


class Terminal:
    """pypoolctl top on a terminal of its own, and what it has drawn there."""

    def __init__(self, daemon: Daemon, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = subprocess.Popen(
            [str(BUILD / "pypoolctl"), "--socket", str(daemon.socket), "top", *arguments],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, seconds: float) -> bool:
        """Whether something came."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.text += os.read(self.master, 1 << 16).decode()
        return bool(ready)

    def until(self, wanted: str, timeout: float = 10.0) -> str:
        """All up to this, which is taken out."""
        deadline = time.monotonic() + timeout * SLOW
        while wanted not in self.text:
            assert self.read(max(0.0, deadline - time.monotonic())), f"no {wanted!r} in {self.text!r}"
        before, _, self.text = self.text.partition(wanted)
        return before

    def frame(self) -> list[str]:
        """The lines of the next picture, as they are shown."""
        self.until(HOME)
        drawn = self.until("\x1b[J")
        return [line.removesuffix("\x1b[K") for line in drawn.split("\r\n")]

    def end(self) -> int:
        status = self.process.wait(10 * SLOW)
        self.until(LEAVE)
        while self.read(0.0):
            pass
        return status

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


def test_on_a_terminal_it_is_drawn_in_place_until_q(daemon: Daemon) -> None:
    with Terminal(daemon, "-d", "0.2") as screen:
        screen.until(ENTER)
        first, second = screen.frame(), screen.frame()
        for drawn in (first, second):
            assert drawn[0].startswith("pypoold ") and drawn[2].startswith("POOL")
            assert drawn[5].startswith("WORKER") and len(drawn) == 8
        assert first[3].split()[7] == "-" and second[3].split()[7] == "0.0", "rates need two looks"
        assert not screen.is_as_before(), "keys come one by one"
        screen.press("xq")
        assert screen.end() == 0 and screen.is_as_before()
        assert "q" not in screen.text


def test_a_blank_looks_at_once_and_signals_end_it(daemon: Daemon) -> None:
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Terminal(daemon, "-d", "3600") as screen:
            screen.frame()
            screen.press(" ")
            while screen.frame()[3].split()[7] == "-":  # within a millisecond of the first
                screen.press(" ")
            screen.process.send_signal(signo)
            assert screen.end() == 0 and screen.is_as_before()


def test_lines_are_cut_to_the_terminal_as_it_is_now(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 4), "large": pool("nasty", 1)})
    with daemon.client() as c, Terminal(daemon, "-d", "3600", rows=6, columns=20) as screen:
        call = c.start_execute("sleep", 60, pool="large")
        wait_running(c, "sleep")
        screen.frame()
        screen.press(" ")
        drawn = screen.frame()
        assert len(drawn) == 6 and max(len(line) for line in drawn) == 20
        screen.resize(50, 200)
        screen.process.send_signal(signal.SIGWINCH)
        drawn = screen.frame()
        assert len(drawn) > 10 and any("large" in line and line.endswith("ms") for line in drawn), drawn
        c.call("cancel", id=call)


def test_stopped_and_continued_it_takes_the_screen_again(daemon: Daemon) -> None:
    with Terminal(daemon, "-d", "3600") as screen:
        screen.until(ENTER)
        screen.frame()
        screen.process.send_signal(signal.SIGTSTP)
        screen.until(LEAVE)
        stat = Path(f"/proc/{screen.process.pid}/stat")
        eventually(lambda: " T " in stat.read_text(), "it has stopped")
        assert screen.is_as_before()
        screen.process.send_signal(signal.SIGCONT)
        screen.until(ENTER)
        screen.frame()
        assert not screen.is_as_before()
        screen.press("q")
        assert screen.end() == 0 and screen.is_as_before()


def test_the_end_of_the_daemon_is_told_where_it_can_be_read(daemon: Daemon) -> None:
    with Terminal(daemon, "-d", "0.05") as screen:
        screen.frame()
        daemon.process.send_signal(signal.SIGTERM)
        assert screen.end() == 1 and screen.is_as_before()
        assert re.search(r"pypoolctl: (connection_lost|cannot_connect)", screen.text), screen.text
    daemon.process.wait(10 * SLOW)
