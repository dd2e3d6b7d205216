"""What README.md shows does what it says there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from tests.support.daemon import BUILD, DEMO, PYTHON, ROOT, SLOW, Daemon

StartDaemon = Callable[..., Daemon]

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def block(part: str) -> str:
    """The block that has this text."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [b for b in blocks if part in b]
    return found


@pytest.fixture
def served(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    """A daemon with the application and the configuration of the page."""
    application = block("from pypool_worker import expose")
    name = application.splitlines()[0].removeprefix("# ")
    config = block('pool "default"')
    assert f'path = {{"{Path(name).parent}"}}' in config
    (tmp_path / Path(name).name).write_text(application)
    config = config.replace(str(Path(name).parent), str(tmp_path))
    return start_daemon(text=f'socket = "{{socket}}"\nlog_level = debug\n{config}')


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) < 150


def test_a_call_from_the_shell(served: Daemon) -> None:
    _, call, answer, workers = block("$ pypoold --config").splitlines()
    argument = call.split("word_count ")[1].strip("'")
    done = served.ctl("call", "word_count", argument)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer + "\n", "")
    assert workers.startswith("$ pypoolctl workers") and served.ctl("workers").returncode == 0
    commands = workers.split("# ")[1].partition(":")[0].split(", ")
    assert commands and all(served.ctl("help", command).returncode == 0 for command in commands)


def test_a_call_from_c(served: Daemon, tmp_path: Path) -> None:
    snippet = block("pypool_executef")
    (tmp_path / "snippet.c").write_text(
        "#include <pypool.h>\nstatic int complain(const struct pypool_error *e) { return *pypool_error_message(e) != '\\0'; }\n"
        "int main(void) {\nstruct pypool *p; struct pypool_reply *reply; const char *text = \"to be\";\n"
        f"{snippet}\nreturn 42;\n}}\n")
    sanitizers = ["-fsanitize=address,undefined"] if "asan" in BUILD.name else []
    sanitizers += ["--coverage"] if "cov" in BUILD.name else []
    program = tmp_path / "snippet"
    subprocess.run([os.environ.get("CC", "gcc"), "-Wall", "-Wextra", "-Werror", *sanitizers, f"-I{ROOT / 'client'}", "-o", str(program),
                    str(tmp_path / "snippet.c"), str(BUILD / "libpypool.a"), "-lmsgpackc"], check=True)
    environment = {**os.environ, "PYPOOL_SOCKET": str(served.socket), "ASAN_OPTIONS": "detect_leaks=0"}  # it ends at once
    assert subprocess.run([str(program)], env=environment, check=False, timeout=30 * SLOW).returncode == 42


def test_a_call_from_python(served: Daemon) -> None:
    example, printed = re.subn(r"client\.execute\(.*\)$", r"print(\g<0>)", block("pypool_client.Client()"), flags=re.MULTILINE)
    assert printed == 1
    environment = {**os.environ, "PYPOOL_SOCKET": str(served.socket), "PYTHONPATH": str(ROOT / "client" / "python")}
    done = subprocess.run([PYTHON, "-B", "-c", f"import pypool_client\n{example}"], env=environment, capture_output=True, text=True,
                          timeout=60 * SLOW, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'words': 6}\n", "")


def as_sent(shown: str) -> bytes:
    """A line of the page that shows a length and a message."""
    match = re.fullmatch(r"[→←] ((?:[0-9a-f]{2} ){4}) (\[.*\])", shown)
    assert match is not None
    body = msgpack.packb(json.loads(match[2].replace("nil", "null")))
    assert bytes.fromhex(match[1]) == len(body).to_bytes(4, "big")
    return bytes.fromhex(match[1]) + body


def test_a_call_byte_by_byte(served: Daemon) -> None:
    call, answer = map(as_sent, block("00 00 00").splitlines())
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30 * SLOW)
        s.connect(str(served.socket))
        s.sendall(call)
        assert s.recv(len(answer), socket.MSG_WAITALL) == answer


def test_the_first_thing_that_is_shown(start_daemon: StartDaemon) -> None:
    """The failure of a call, word by word but for who it was, and wrapped."""
    daemon = start_daemon({"default": DEMO})
    command, *shown = block("deadline_exceeded").splitlines()
    words = command.removeprefix("$ pypoolctl ").split()

    def without_numbers(text: str) -> str:
        return re.sub(r"worker \d+ \(pid \d+\)", "worker N (pid N)", " ".join(text.split()))

    told = daemon.ctl(*words).stderr.split("\npool: ")[0]
    assert without_numbers(told) == without_numbers("\n".join(shown))
