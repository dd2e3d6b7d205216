"""--wait: what a command waits for, how it fails, and the line that a terminal is shown meanwhile."""

from __future__ import annotations

import errno
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.daemon import BUILD, SLOW, Daemon, pool
from tests.support.scenes import pool_of, wait_running, wait_workers, workers

Start = Callable[..., Daemon]

ERASE = "\x1b[K"


class Terminal:
    """The command with a terminal as its stderr; stdout is a pipe."""

    def __init__(self, daemon: Daemon, *arguments: str, columns: int = 120, term: str = "xterm") -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.shown = ""
        self.process = subprocess.Popen(
            [str(BUILD / "pypoolctl"), "--socket", str(daemon.socket), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, text=True, env={**os.environ, "TERM": term})
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self.master)

    def read(self, seconds: float) -> bool:
        """Whether there is more to come; what has come is in `shown`."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            self.shown += os.read(self.master, 1 << 16).decode()
        except OSError as e:
            assert e.errno == errno.EIO
            return False
        return True

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20 * SLOW
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown!r}"
            assert self.read(0.1) or text in self.shown, f"it has ended without {text!r}: {self.shown!r}"

    def end(self) -> tuple[int, str]:
        """Exit status and stdout."""
        deadline = time.monotonic() + 20 * SLOW
        while self.read(0.1):
            assert time.monotonic() < deadline, self.shown
        out, _ = self.process.communicate(timeout=20 * SLOW)
        return self.process.returncode, out

    def lines(self) -> list[str]:
        """What was drawn, one over the other."""
        return [line.replace(ERASE, "") for line in self.shown.split("\r") if line.replace(ERASE, "").strip()]


def test_drain_shows_how_many_calls_run(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 2)})
    with daemon.client() as c:
        running = [c.start_execute("sleep", 60) for _ in range(2)]
        wait_running(c, "sleep", 2)
        with Terminal(daemon, "drain") as t:
            t.wait_for("pool default: 2 calls run (")
            c.call("cancel", id=running[0])
            t.wait_for("pool default: 1 call runs (")
            c.call("cancel", id=running[1])
            assert t.end() == (0, "pool default is paused: 2 calls run, 0 wait\n")
            assert t.shown.endswith("\r" + ERASE) and "\n" not in t.shown, "the line is gone"
        for number in running:
            assert c.wait_error(number).code == "cancelled"


def test_without_a_terminal_or_on_a_dumb_one_nothing_is_drawn(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c:
        running = c.start_execute("sleep", 0.5)
        wait_running(c, "sleep")
        done = daemon.ctl("drain")
        assert (done.returncode, done.stderr) == (0, "")
        assert c.wait(running).value() is None and daemon.ctl("resume").returncode == 0
        running = c.start_execute("sleep", 0.5)
        wait_running(c, "sleep")
        with Terminal(daemon, "drain", term="dumb") as t:
            assert t.end()[0] == 0 and t.shown == ""
        c.wait(running).value()


def test_a_line_is_cut_to_the_width_of_the_terminal(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c:
        running = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        with Terminal(daemon, "drain", columns=20) as t:
            t.wait_for("pool default: 1 cal" + ERASE)
            c.call("cancel", id=running)
            assert t.end()[0] == 0
            assert set(t.lines()) == {"pool default: 1 cal"}
        assert c.wait_error(running).code == "cancelled"


def test_recycle_waits_until_all_are_replaced(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 2)})
    with daemon.client() as c:
        before = {w["worker"] for w in workers(c)}
        running = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        with Terminal(daemon, "recycle", "--wait") as t:
            t.wait_for("pool default: 1 worker left to replace (")
            c.call("cancel", id=running)
            assert t.end() == (0, "pool default: 2 workers will be replaced, each after its call\n")
        assert not before & {w["worker"] for w in workers(c)}
        assert c.wait_error(running).code == "cancelled"


def test_resize_waits_until_there_are_so_many(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=0.5"])})
    with daemon.client() as c:
        with Terminal(daemon, "resize", "default", "--min", "3", "--max", "3", "--wait") as t:
            t.wait_for("pool default: 1 worker serves, 2 come or go; 3 to 3 are wanted (")
            assert t.end() == (0, "pool default has 3 to 3 workers until its next reload\n")
        assert len(workers(c, "idle")) == 3
        running = [c.start_execute("sleep", 1.2) for _ in range(3)]
        wait_running(c, "sleep", 3)
        done = daemon.ctl("resize", "default", "--max", "1", "--wait")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(workers(c)) == 1
        for number in running:
            c.wait(number).value()


@pytest.fixture
def breaking(start_daemon: Start, tmp_path: Path) -> tuple[Daemon, Path]:
    """A pool of one worker, and the file of its application."""
    app = tmp_path / "breaks.py"
    app.write_text("from pypool_worker import expose\n")
    return start_daemon({"default": pool("breaks", 1, path=[str(tmp_path)])}), app


def test_a_wait_for_workers_that_do_not_start_fails(breaking: tuple[Daemon, Path]) -> None:
    daemon, app = breaking
    app.write_text("raise RuntimeError('no licence')  # longer: the time of a file is not fine enough\n")
    done = daemon.ctl("resize", "default", "--min", "2", "--wait")
    assert done.returncode == 1 and "pool default: workers do not start: RuntimeError: no licence" in done.stderr


def test_a_reload_shows_how_far_it_is(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("slow_import", 3, environment=["PYPOOL_TEST_SECONDS=0.4"])})
    with daemon.client() as c:
        running = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        with Terminal(daemon, "reload", "--wait") as t:
            t.wait_for("pool default: reload, canary: ")
            t.wait_for("pool default: reload, rolling: ")
            t.wait_for("1 old ones are left (")
            c.call("cancel", id=running)
            status, out = t.end()
            assert status == 0 and out.startswith("pool default is at generation 2: 3 workers replaced in ")
            assert t.shown.endswith("\r" + ERASE) and "\n" not in t.shown
        assert c.wait_error(running).code == "cancelled"
        assert pool_of(c)["generation"] == 2


def test_a_reload_that_fails_is_told_with_its_cause_on_a_terminal_too(breaking: tuple[Daemon, Path]) -> None:
    daemon, app = breaking
    app.write_text("import time; time.sleep(0.5)\nraise RuntimeError('no licence')\n")
    with Terminal(daemon, "reload", "--wait") as t:
        t.wait_for("reload, canary")
        assert t.end() == (1, "")
        assert "init_failed" in t.shown and "no licence" in t.shown and "Traceback" in t.shown


def test_a_reload_whose_daemon_ends_is_told(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=1"])})
    with Terminal(daemon, "reload", "--wait") as t:
        t.wait_for("reload, canary")
        daemon.process.kill()
        status, _ = t.end()
        assert status in (1, 3) and "pypoolctl: " in t.shown
    daemon.kill()


def test_kill_waits_until_it_is_gone(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, stop_timeout="400ms")})
    with daemon.client() as c:
        (worker,) = workers(c)
        running = c.start_execute("ignore_term_forever")
        wait_running(c, "ignore_term_forever")
        done = daemon.ctl("kill", str(worker["worker"]), "--wait")
        assert done.returncode == 0 and not os.path.exists(f"/proc/{worker['pid']}")
        assert c.wait_error(running).code == "worker_died"
        wait_workers(c, "idle", 1)


def test_resume_waits_for_nothing(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c:
        running = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        assert daemon.ctl("pause").returncode == 0
        done = daemon.ctl("resume", "--wait")
        assert (done.returncode, done.stdout) == (0, "pool default is serving: 1 call runs, 0 wait\n")
        assert c.call("cancel", id=running) is True
        assert c.wait_error(running).code == "cancelled"


def test_a_single_worker_is_recycled(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("shows", 2), "small": pool("shows", 1)})
    with daemon.client() as c:
        one, other = (w["worker"] for w in workers(c, "idle", pool="default"))
        assert daemon.ctl("recycle", f"default/{one}", "--wait").returncode == 0
        assert [w["worker"] for w in workers(c, "dead")] == [one] and other in {w["worker"] for w in workers(c, "idle")}
        refused = daemon.ctl("recycle", f"default/{one}")
        assert refused.returncode == 1 and f"worker {one} is dead" in refused.stderr
        refused = daemon.ctl("recycle", f"small/{other}")
        assert refused.returncode == 1 and f"worker {other} is of pool default, and not of small" in refused.stderr
        refused = daemon.ctl("recycle", f"elsewhere/{other}")
        assert refused.returncode == 1 and 'no pool "elsewhere"' in refused.stderr


def test_a_wrong_option_is_told_by_the_name_of_the_program(start_daemon: Start) -> None:
    done = start_daemon({"default": pool("shows", 1)}).ctl("resume", "--later")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "pypoolctl resume: unrecognized option '--later'", "Usage: pypoolctl resume [POOL...] [--wait]"]
