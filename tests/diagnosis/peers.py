"""What callers are told in the same scenes by pypoold and by what is used in its place: prints a table in Markdown.

    PYTHONPATH=. /usr/bin/python3 -B tests/diagnosis/peers.py [WORD...]

Each scene is played once with each: a caller that waits 3 seconds, a pool of one worker, defaults otherwise (gunicorn and
uWSGI: a request timeout of 2 s, which is what their operators set). Peers that are not installed are left out. No test.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import platform
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tests.diagnosis.memory_group import memory_group
from tests.diagnosis.telling import DATA, pool, wait_begun
from tests.support import daemon, procfs
from tests.support.client import Client
from tests.support.scenes import wait_running, workers
from tests.support.waiting import eventually

REQUEST_TIMEOUT = 2
PATH = f"{daemon.ROOT / 'python_worker'}:{DATA}"


class Scene(NamedTuple):
    title: str
    what: str  # call, import, busy, idle, again, outside
    name: str = ""
    args: list[Any] = []
    memory: int = 0  # RLIMIT_AS in MiB
    group: int = 0  # MiB that all together may have: a cgroup


SCENES = [
    Scene("app missing", "import", "no_such_app"),
    Scene("syntax error", "import", "imports_broken"),
    Scene("import error three modules deep", "import", "chain_app"),
    Scene("import that sleeps", "import", "sleepy"),
    Scene("import that deadlocks", "import", "deadlock"),
    Scene("print at import, then failure", "import", "chatty"),
    Scene("plain exception", "call", "plain"),
    Scene("chained exception", "call", "chained"),
    Scene("unpicklable exception", "call", "unpicklable"),
    Scene("sys.exit(3)", "call", "leave", [3]),
    Scene("_exit(0)", "call", "vanish", [0]),
    Scene("_exit(3)", "call", "vanish", [3]),
    Scene("SIGKILL from outside", "outside", "slow", [20]),
    Scene("SIGSEGV", "call", "segfault"),
    Scene("abort()", "call", "abort"),
    Scene("MemoryError", "call", "grab", [8192], 4096),
    Scene("OOM kill", "call", "hoard", [400], group=96),
    Scene("Python loop", "call", "loop"),
    Scene("C loop with the GIL", "call", "match"),
    Scene("lock deadlock", "call", "deadlock"),
    Scene("blocked socket read", "call", "read_socket"),
    Scene("SIGSTOP", "call", "stop"),
    Scene("result that cannot be encoded", "call", "locked"),
    Scene("unknown function", "call", "prise", [1]),
    Scene("all workers busy", "busy", "price", [1]),
    Scene("worker dead while idle", "idle", "price", [1]),
    Scene("poison call, three times", "again", "vanish", [3]),
    Scene("fd exhaustion in the handler", "call", "open_all", ["/dev/null"]),
]


def one_line(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x…", " ".join(text.split()))


def limited(scene: Scene, group: list[str]) -> list[str]:
    return [*group, "prlimit", "--core=0", "--nofile=64", *([f"--as={scene.memory << 20}"] if scene.memory else [])]


# ---- pypoold


@contextlib.contextmanager
def little_memory(scene: Scene) -> Iterator[list[str]]:
    """The words before a command that start it there."""
    if not scene.group:
        yield []
        return
    with memory_group(scene.group << 20) as words:
        if words is None:
            sys.exit("no cgroup with a memory limit can be made here")
        yield words


def of_pypoold(scene: Scene) -> str:
    app = scene.name if scene.what == "import" else "shop"
    settings = pool(app, init_timeout="1s", limit_nofile=64, call_timeout="2s", queue_timeout="2s")
    if scene.memory:
        settings["limit_as"] = f"{scene.memory}M"
    with little_memory(scene) as group:
        d = daemon.Daemon({"default": settings}, prefix=group)
        try:
            with d.client() as c:
                return play_pypoold(scene, c)
        finally:
            d.discard()


def play_pypoold(scene: Scene, c: Client) -> str:
    if scene.what == "busy":
        c.start_execute("slow", 20, timeout_ms=20_000)
        wait_running(c, "slow")
    if scene.what == "idle":
        os.kill(workers(c, "idle")[0]["pid"], signal.SIGKILL)
    number = c.start_execute(scene.name, *scene.args)
    if scene.what == "outside":
        wait_begun(c)
        os.kill(workers(c, "busy")[0]["pid"], signal.SIGKILL)
    told = saw_pypoold(c, number)
    if scene.what == "again":
        told = "; ".join([told, *(saw_pypoold(c, c.start_execute(scene.name, *scene.args)) for _ in range(2))])
    return told


def saw_pypoold(c: Client, number: int) -> str:
    reply = c.wait(number)
    if reply.error is None:
        return f"the result {json.dumps(reply.result)}"
    return f"{reply.error['code']} ({reply.error['executed']}): {reply.error['message']}"


# ---- process pools


def of_process_pool(kind: str, scene: Scene) -> str:
    with little_memory(scene) as group:
        return play_process_pool(kind, scene, group)


def play_process_pool(kind: str, scene: Scene, group: list[str]) -> str:
    command = [*limited(scene, group), daemon.PYTHON, "-B", str(DATA / "peer_pool.py"), kind, json.dumps(scene[1:4])]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONPATH": PATH, "SHOP_BEGUN": f"{directory}/begun"}
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        found = re.search(r"^SAW (.*)$", output.read(), re.MULTILINE)
    if process.returncode != -signal.SIGKILL and not found:
        return f"(the scene could not be played: status {process.returncode})"
    return found[1] if found else "nothing: the caller hangs, and its own timeout of 3 s does not end it"


# ---- web servers


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def server_command(kind: str, port: int) -> list[str]:
    if kind == "gunicorn":
        return ["gunicorn", "--workers=1", f"--timeout={REQUEST_TIMEOUT}", f"--bind=127.0.0.1:{port}", "peer_web:application"]
    return ["uwsgi", "--plugin=python3", f"--http-socket=127.0.0.1:{port}", "--master", "--processes=1",
            f"--harakiri={REQUEST_TIMEOUT}", "--module=peer_web:application", "--die-on-term"]


@contextlib.contextmanager
def server(kind: str, scene: Scene, begun: Path, group: list[str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": PATH, "SHOP_BEGUN": str(begun),
                   "PEER_APP": scene.name if scene.what == "import" else "shop"}
    command = [*limited(scene, group), *server_command(kind, port)]
    with subprocess.Popen(command, env=environment, cwd=DATA, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          start_new_session=True) as process:
        family = procfs.descendants(process.pid)
        try:
            with contextlib.suppress(AssertionError):  # one whose application hangs may never come up
                eventually(lambda: process.poll() is not None or is_up(process.pid, port), "it is up or has ended", 3.0)
            family = procfs.descendants(process.pid)
            yield port, process
        finally:
            for p in [*family, *procfs.descendants(process.pid)]:
                if p.is_alive():
                    os.kill(p.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_up(pid: int, port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0 and bool(procfs.children(pid))


def kill(pid: int) -> None:
    """Returns when it is dead."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def request(port: int, name: str, args: list[Any], patience: float = 6.0) -> Callable[[], str]:
    """Sends it; what is returned waits for the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    failed = ""
    try:
        connection.request("GET", f"/{name}?{urllib.parse.quote(json.dumps(args))}")
    except OSError as exc:
        failed = f"{type(exc).__name__}: {exc}"

    def answer() -> str:
        if failed:
            return failed
        try:
            response = connection.getresponse()
            body = response.read(400).decode(errors="replace")
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        words = one_line(re.sub(r"<[^>]*>", " ", body))
        return f"the result {words}" if response.status == 200 else f"HTTP {response.status}: {words or '(no body)'}"

    return answer


def of_server(kind: str, scene: Scene) -> str:
    with little_memory(scene) as group:
        return play_server(kind, scene, group)


def play_server(kind: str, scene: Scene, group: list[str]) -> str:
    with tempfile.TemporaryDirectory() as directory, server(kind, scene, Path(directory, "begun"), group) as (port, process):
        begun = Path(directory, "begun")
        before_us = []  # keeps its connection open
        if scene.what == "busy":
            before_us.append(request(port, "slow", [20]))
            eventually(begun.exists, "the call of another has begun")
        children = procfs.children(process.pid)
        if scene.what == "idle" and children:
            kill(children[0].pid)
        answer = request(port, scene.name if scene.what != "import" else "price", scene.args, 1.5 if scene.what == "busy" else 6.0)
        if scene.what == "outside" and children:
            eventually(begun.exists, "the call has begun")
            os.kill(children[0].pid, signal.SIGKILL)
        told = answer()
        if scene.what == "again":
            told = "; ".join([told, *(request(port, scene.name, scene.args)() for _ in range(2))])
        return told


# ---- the table


def peers() -> dict[str, Callable[[Scene], str]]:
    python = platform.python_version()
    found: dict[str, Callable[[Scene], str]] = {"pypoold": of_pypoold}
    found[f"multiprocessing.Pool ({python})"] = lambda scene: of_process_pool("multiprocessing", scene)
    found[f"ProcessPoolExecutor ({python})"] = lambda scene: of_process_pool("concurrent", scene)
    with contextlib.suppress(ImportError):
        from joblib.externals import loky  # type: ignore[import]

        found[f"loky {loky.__version__}"] = lambda scene: of_process_pool("loky", scene)
    if shutil.which("gunicorn"):
        found[f"gunicorn {importlib.metadata.version('gunicorn')}"] = lambda scene: of_server("gunicorn", scene)
    if shutil.which("uwsgi"):
        version = subprocess.run(["uwsgi", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found[f"uWSGI {version}"] = lambda scene: of_server("uwsgi", scene)
    return found


def main(words: list[str]) -> None:
    columns = peers()
    for scene in SCENES:
        if words and not any(word in scene.title for word in words):
            continue
        print(f"### {scene.title}")
        for name, play in columns.items():
            print(f"- {name}: `{one_line(play(scene))}`", flush=True)
        print()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        main(sys.argv[1:])
