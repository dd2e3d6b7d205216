"""What the daemon says about a wrong configuration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, SLOW
from tests.support.daemon_life import Start


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--app", "x", "--workers", "4097"], "--workers takes a number from 1 to 4096"),
        (["--app", "x", "--workers", "0"], "--workers takes a number from 1 to 4096"),
        (["--config", "/dev/null", "--workers", "3"], "--workers goes with --app"),
        (["--app", "x", "y"], 'unexpected argument "y"'),
    ],
)
def test_a_wrong_command_line_is_exit_64(arguments: list[str], said: str) -> None:
    done = subprocess.run([str(BUILD / "pypoold"), *arguments], capture_output=True, text=True, timeout=20 * SLOW, check=False)
    assert (done.returncode, done.stdout) == (64, "") and said in done.stderr
