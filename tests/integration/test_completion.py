"""The completion of pypoolctl for bash: what it offers is what the program takes, and what the daemon has."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, DEMO, ROOT, SLOW, Daemon

SCRIPT = ROOT / "client" / "ctl" / "pypoolctl.bash"
CTL = str(BUILD / "pypoolctl")
COMMON = ["--help", "--json", "--socket"]
NONE = Path("/nonexistent/socket")
VALUES = {"N": "1", "LINES": "1", "WORKER": "1", "TIME": "1s", "SECONDS": "1"}  # that are taken; others may be anything
RUN = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pypoolctl; printf "%s\\n" "${COMPREPLY[@]}"'


def complete(daemon_socket: Path, *words: str) -> list[str]:
    """What bash offers with the cursor at the end of the last of these words, sorted."""
    done = subprocess.run(
        ["bash", "--norc", "-c", RUN, str(SCRIPT), CTL, *words],
        env={**os.environ, "PYPOOL_SOCKET": str(daemon_socket)},
        capture_output=True,
        text=True,
        timeout=30 * SLOW,
        check=True,
    )
    assert done.stderr == ""
    return sorted(word for word in done.stdout.splitlines() if word)


def commands() -> list[str]:
    return re.findall(r'^\t\{ "(\w+)",', (ROOT / "client" / "ctl" / "commands.c").read_text(), re.MULTILINE)


def words_of(*arguments: str) -> list[str]:
    return subprocess.run([CTL, "words", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_command_is_offered_and_no_hidden_one() -> None:
    assert complete(NONE, "") == sorted(commands())
    assert complete(NONE, "st") == ["stack", "status"]
    assert "words" not in subprocess.run([CTL, "help"], capture_output=True, text=True, check=True).stdout


def test_options_are_offered_after_a_dash() -> None:
    assert complete(NONE, "-") == sorted([*COMMON, "--version"])
    assert complete(NONE, "logs", "-") == sorted([*COMMON, "--pool", "--worker", "-f", "-n"])
    assert complete(NONE, "logs", "--p") == ["--pool"]
    assert complete(NONE, "metrics", "--h") == ["--help", "--http"]
    assert complete(NONE, "ping", "--w") == ["--wait"]
    assert complete(NONE, "help", "wh") == ["why"]
    assert complete(NONE, "ping", "") == []
    assert complete(NONE, "events", "worker", "s") == ["session"]


@pytest.mark.parametrize("command", sorted(set(commands()) - {"help"}))
def test_the_program_takes_every_option_that_it_names(command: str) -> None:
    for option, *value in [line.split() for line in words_of(command) if line.startswith("-")]:
        arguments = [option, *(VALUES.get(kind, "a=1") for kind in value)]
        # what stands before --help is looked at; not by call
        arguments += ["target"] if command == "call" else ["--help"]
        done = subprocess.run(
            [CTL, "--socket", str(NONE), command, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == (3 if command == "call" and option != "--help" else 0), done.stderr


def test_the_program_has_no_option_that_it_does_not_name() -> None:
    source = "".join(path.read_text() for path in (ROOT / "client" / "ctl").glob("*.c"))
    taken = {f"--{name}" for name in re.findall(r'\{ "(\w[\w-]*)", (?:no|required|optional)_argument', source)}
    taken -= {"--lines", "--follow"}  # -n and -f, written out
    named = {line.split()[0] for line in [*words_of(), *(line for c in commands() for line in words_of(c))]}
    assert len(taken) > 10 and taken <= named


def test_what_the_daemon_has_is_offered(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO, "reports": DEMO})
    with daemon.client() as c:
        c.execute("collect", "book", session="cart of 5", pool="default")
        at = daemon.socket
        workers = json.loads(daemon.ctl("workers", "--json").stdout)
        named = sorted(f"{w['pool']}/{w['worker']}" for w in workers)
        assert complete(at, "pools", "--pool", "") == ["default", "reports"]
        assert complete(at, "pools", "--pool", "=", "re") == ["reports"]
        assert complete(at, "pools", "--pool", "=") == ["default", "reports"]
        assert complete(at, "logs", "--pool", "default", "--worker", "") == named
        assert complete(at, "stack", "rep") == [w for w in named if w.startswith("rep")]
        assert complete(at, "reload", "default", "r") == ["reports"]
        assert complete(at, "call", "collect", "--session", "") == [r"cart\ of\ 5"]
        assert complete(at, "logs", "-f", "rep") == ["reports", *[w for w in named if w.startswith("rep")]]
        assert complete(at, "why", "") == sorted(["call", "worker", "pool", "default", "reports", *named])
        assert complete(at, "why", "worker", "") == named
        assert complete(at, "why", "pool", "d") == ["default"]
        call = c.start_execute("sleep", 60, pool="default")
        (told,) = json.loads(daemon.ctl("queue", "--json").stdout)
        assert complete(at, "why", "call", "") == [str(told["call"])]
        assert c.call("cancel", id=call) is True
        assert c.wait_error(call).code == "cancelled"
    for worker in named:
        assert daemon.ctl("why", "worker", worker).returncode == 0
        assert daemon.ctl("logs", "--worker", worker).returncode == 0


def test_the_socket_on_the_line_is_asked(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"other": DEMO})
    assert complete(NONE, "--socket", str(daemon.socket), "pools", "--pool", "") == ["other"]
    assert complete(NONE, "pools", "--socket", "=", str(daemon.socket), "--pool", "") == ["other"]
    assert complete(NONE, "pools", "--pool", "") == []
    assert complete(NONE, "--socket", str(daemon.config)[:-3]) == [str(daemon.config)]
