"""pypoolctl events and logs -f: what happens, as it happens."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, DEMO, SLOW, Daemon, pool
from tests.support.following import Following

Start = Callable[..., Daemon]

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


def is_line(found: str, expected: str) -> None:
    """A line of a command: the time, then this pattern."""
    assert re.fullmatch(f"{TIME} {expected}", found), found


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_events_are_told_a_line_each_until_it_is_stopped(daemon: Daemon, signo: int) -> None:
    with daemon.client() as c, Following(daemon, "events") as events:
        lease = c.call("checkout", type="anonymous")
        is_line(events.line(), rf"lease default/{lease['worker']} begun lease=1 client=\d+ uid=\d+")
        c.call("checkin", lease=1)
        is_line(events.line(), r'lease default/\d+ ended lease=1 client=\d+ uid=\d+ reason="it was checked in"')
        c.execute("collect", "x", session="my cart")
        is_line(events.line(), r'session default opened session="my cart" uid=\d+')
        c.call("pool.pause")
        is_line(events.line(), "pool default paused state=paused")
        c.call("pool.resume")
        assert " pool default resumed " in events.line()
        c.call("worker.kill", worker=1)
        is_line(events.line(), r"worker default/1 stopping pid=\d+ generation=1 from=idle ms=\d+ reason=operator")
        assert events.stop(signo)[0] == 0


def test_kinds_and_pools_are_chosen_and_json_is_one_object_a_line(start_daemon: Start) -> None:
    daemon = start_daemon({"a": DEMO, "b": DEMO})
    with daemon.client() as c, Following(daemon, "events", "--json", "--pool", "b", "pool", "session") as events:
        for name in ("a", "b"):
            c.call("pool.pause", pool=name)
            c.call("pool.resume", pool=name)
        for what in ("paused", "resumed"):
            told = events.object()
            assert (told["kind"], told["what"], told["pool"]) == ("pool", what, "b")
        assert events.stop() == (0, "", "")


def test_what_cannot_be_listened_to_is_an_error(daemon: Daemon) -> None:
    for arguments, status, message in (
        (["weather"], 1, 'no kind of event "weather"; there are: worker session'),
        (["--pool", "none"], 1, "unknown_pool"),
        (["--nothing"], 2, "Usage: pypoolctl events"),
    ):
        done = daemon.ctl("events", *arguments)
        assert (done.returncode, done.stdout) == (status, "") and message in done.stderr
    assert daemon.ctl("--socket", "/nonexistent/socket", "events").returncode == 3


def test_the_end_of_the_daemon_ends_it_with_the_last_events(daemon: Daemon) -> None:
    with Following(daemon, "events", "pool") as events:
        daemon.process.send_signal(signal.SIGTERM)
        status, out, err = events.end()
        assert status == 1 and "connection_lost" in err
        assert [line.split()[3:5] for line in out.splitlines()] == [["default", "draining"], ["default", "stopped"]]
    daemon.process.wait(10 * SLOW)


def test_it_ends_when_nobody_reads_what_it_prints(daemon: Daemon) -> None:
    with daemon.client() as c, Following(daemon, "events") as events:
        c.call("pool.pause")
        assert "paused" in events.line()
        assert events.process.stdout is not None
        events.process.stdout.close()
        assert events.process.wait(10 * SLOW) == 0


@pytest.mark.parametrize("as_json", [False, True])
def test_lost_events_are_spoken_of(start_daemon: Start, as_json: bool) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, Following(daemon, *["--json"][:as_json], "events", "output") as events:
        events.process.send_signal(signal.SIGSTOP)
        for _ in range(5):
            c.execute("number_lines", 20000)
        events.process.send_signal(signal.SIGCONT)
        lines: list[str] = []
        while "are you there" not in (lines or [""])[-1]:  # those that come while much still waits are lost too
            c.execute("write", "stdout", "are you there\n")
            lines += [events.line() for _ in range(100 if not lines else 1)]
        status, out, err = events.stop()
        lines += out.splitlines()
        lost = [int(n) for n in re.findall(r"pypoolctl: (\d+) events were lost", err)]
        told = [int(n) for n in re.findall(r'"dropped": ?(\d+)', "\n".join(lines))]
        assert status == 0 and (lost, told)[not as_json] == [] and sum(lost + told) > 0


def test_control_characters_of_workers_do_not_reach_the_terminal(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, Following(daemon, "events", "output") as events:
        c.execute("write", "stderr", "\x1b[2J\x9bbad \n")
        assert events.line().endswith(r'text="\x1b[2J\xc2\x9bbad "')


def test_lines_are_followed_from_where_the_last_ones_end(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        c.execute("write", "stdout", "first\nsecond\nthird\nhal")
        with Following(daemon, "logs", "-f", "-n", "2") as logs:
            for text in ("second", "third"):  # what has not ended comes when it has
                is_line(logs.line(), f"default/1 stdout: {text}")
            c.execute("write", "stderr", "mine\n")
            is_line(logs.line(), "default/1 stdout: hal")
            is_line(logs.line(), "default/1 stderr: mine")
            assert logs.stop() == (0, "", "")
        with Following(daemon, "--json", "logs", "--follow", "-n", "1") as logs:
            before = logs.object()
            c.execute("write", "stderr", "more\n")
            after = logs.object()
            assert (before["text"], after["text"], after["source"]) == ("mine", "more", "stderr")
            assert after["number"] == before["number"] + 1
            assert set(before) - {"partial"} <= set(after)


def test_one_worker_or_one_pool_is_followed(start_daemon: Start) -> None:
    daemon = start_daemon({"a": pool("nasty", 1), "b": pool("nasty", 1), "c": pool("nasty", 2)})
    with daemon.client() as c, Following(daemon, "logs", "-f", "b") as of_pool, \
            Following(daemon, "logs", "-f", "b/2") as of_worker, Following(daemon, "logs", "-f", "1") as by_number:
        for name in ("a", "b", "c"):
            c.execute("write", "stdout", f"of {name}\n", pool=name)
        c.execute("write", "stdout", "again\n", pool="b")
        for logs in (of_pool, of_worker):
            is_line(logs.line(), "b/2 stdout: of b")
            is_line(logs.line(), "b/2 stdout: again")
        is_line(by_number.line(), "a/1 stdout: of a")
    assert daemon.ctl("logs", "b/2").stdout.splitlines()[0].endswith("b/2 stdout: of b")
    assert len(daemon.ctl("logs", "c").stdout.splitlines()) == 1
    assert daemon.ctl("logs", "-f", "none").returncode == 1
    for command in (["logs"], ["logs", "-f"], ["stack"], ["why"]):
        refused = daemon.ctl(*command, "c/2")
        assert (refused.returncode, refused.stdout) == (1, "") and "worker 2 is of pool b" in refused.stderr
    for unknown in (["99"], ["-f", "a/99"]):
        refused = daemon.ctl("logs", *unknown)
        assert refused.returncode == 1 and "there has been no worker 99 yet" in refused.stderr
    assert daemon.ctl("logs", "a", "b").returncode == 2


def test_no_line_is_missing_and_none_comes_twice_while_workers_print(start_daemon: Start, place: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        calls = [c.start_execute("number_lines", 400) for _ in range(6)]
        with Following(daemon, "--json", "logs", "-f", "-n", "5", subscribed=False) as logs:
            for call in calls:
                c.wait(call).value()
            for worker in (1, 2):
                c.call("checkout", type="anonymous")
            for lease in (1, 2):
                c.execute("write", "stdout", "the end\n", lease=lease)
            numbers: dict[int, list[int]] = {1: [], 2: []}
            ended = 0
            while ended < 2:
                line = logs.object()
                numbers[line["worker"]].append(line["number"])
                ended += line["text"] == "the end"
                assert "dropped" not in line
            for found in numbers.values():
                assert found == list(range(found[0], found[-1] + 1))


def test_the_reader_of_a_pipe_may_go_before_its_time(daemon: Daemon) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{BUILD}/pypoolctl --socket {daemon.socket} events | head -1 & "
         f"until {BUILD}/pypoolctl --socket {daemon.socket} --json clients | grep -q '\"subscribed\": *true'; do :; done; "
         f"{BUILD}/pypoolctl --socket {daemon.socket} pause; wait"],
        capture_output=True, text=True, timeout=30 * SLOW, check=False,
    )
    assert done.returncode == 0 and " pool default paused " in done.stdout, done
