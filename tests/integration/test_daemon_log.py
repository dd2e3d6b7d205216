"""What the log does when nobody reads it, and what is in it."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.waiting import eventually
from tests.support.daemon_life import Start, through_shell


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


def test_a_line_of_a_worker_is_logged_with_its_call(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("prints", 1)})
    with daemon.client() as c:
        calls = [c.execute("say", text) for text in ("one", "two", "three")]
    daemon.stop()
    told = re.findall(r" text=(\w+)(?: call=(\d+))?$", daemon.log(), re.MULTILINE)
    words = [("one", calls[0]), ("two", calls[1]), ("three", calls[2])]
    assert told == [("importing", ""), *((word, str(call)) for word, call in words), ("leaving", "")]
