"""The examples of docs/client.md do their work against a real daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, DEMO, ROOT, Daemon
from tests.support.waiting import eventually

EXAMPLES = ROOT / "client" / "examples"


def compiled(name: str, where: Path) -> str:
    """An example, linked with the static library that was built."""
    program = str(where / name)
    sanitizers = ["-fsanitize=address,undefined"] if "asan" in BUILD.name else []
    sanitizers += ["--coverage"] if "cov" in BUILD.name else []
    subprocess.run([os.environ.get("CC", "gcc"), "-std=c99", "-D_POSIX_C_SOURCE=200809L", *sanitizers,
                    f"-I{ROOT / 'client'}", "-o", program, str(EXAMPLES / f"{name}.c"), str(BUILD / "libpypool.a"),
                    "-lmsgpackc", *(["-lev"] if name == "libev" else [])], check=True)
    return program


def run(daemon: Daemon, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, "PYPOOL_SOCKET": str(daemon.socket)}, capture_output=True,
                          text=True, check=False, timeout=30)


def test_the_blocking_example_counts_words(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    done = run(start_daemon({"default": DEMO}), compiled("blocking", tmp_path), "to be or not to be")
    assert (done.returncode, done.stdout, done.stderr) == (0, "6 words\n", "")


@pytest.mark.parametrize("name", ["poll", "libev"])
def test_an_example_with_a_loop_has_all_its_calls_answered(
    name: str, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    files = []
    for n in range(1, 21):
        file = tmp_path / f"{n}.txt"
        file.write_text("word " * n)
        files.append(str(file))
    done = run(start_daemon({"default": DEMO}), compiled(name, tmp_path), *files, str(tmp_path / "none"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 21
    assert {f"{file}: {n} words" for n, file in enumerate(files, 1)} < set(lines)
    assert [line for line in lines if "FileNotFoundError" in line]


def test_the_libev_example_says_that_nobody_listens(tmp_path: Path) -> None:
    environment = {**os.environ, "PYPOOL_SOCKET": str(tmp_path / "none")}
    done = subprocess.run([compiled("libev", tmp_path), "file"], env=environment, capture_output=True, text=True,
                          check=False, timeout=30)
    assert done.returncode == 1 and str(tmp_path / "none") in done.stdout + done.stderr


def test_the_direct_example_calls_one_worker_and_gives_it_back(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    files = []
    for n in range(1, 21):
        file = tmp_path / f"{n}.txt"
        file.write_text("word " * n)
        files.append(str(file))
    daemon = start_daemon({"default": DEMO})
    done = run(daemon, compiled("direct", tmp_path), *files, str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{file}: {n} words" for n, file in enumerate(files, 1)]
    assert "app_error: FileNotFoundError" in done.stderr and "(executed: yes)" in done.stderr
    with daemon.client() as client:
        pool = client.call("pools")[0]
        assert (pool["direct_calls"], pool["direct_errors"]) == (21, 1)


def test_the_session_example_remembers(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = start_daemon({"default": DEMO})
    program = compiled("session", tmp_path)
    assert run(daemon, program, "cart", "book", "pen").stdout == "book\npen\n"
    with daemon.client() as client:
        (session,) = client.call("sessions")
        os.kill(next(w["pid"] for w in client.call("workers") if w["worker"] == session["worker"]), signal.SIGKILL)
        eventually(lambda: bool(client.call("sessions")[0]["state"] == "lost"), "its worker is gone")
    done = run(daemon, program, "cart", "ink")
    assert (done.returncode, done.stdout, done.stderr) == (0, "book\npen\nink\n", "")
    assert run(daemon, program, "other").stderr.startswith("session_not_found: ")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_node_example_counts_words(start_daemon: Callable[..., Daemon]) -> None:
    done = run(start_daemon({"default": DEMO}), "node", str(EXAMPLES / "node.mjs"), "zwei drei vier")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 words\n", "")
