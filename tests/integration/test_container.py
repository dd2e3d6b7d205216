"""Without systemd, as PID 1: the files and commands of docs/containers.md, in a PID namespace of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import APPS, BUILD, ROOT, RUN, SLOW, Daemon, configuration, pool
from tests.support.scenes import wait_running
from tests.support.users import needs_namespaces, needs_root
from tests.support.waiting import eventually

pytestmark = [needs_root, needs_namespaces, pytest.mark.skipif(bool(RUN), reason="the tool would be PID 1")]

PAGE = (ROOT / "docs" / "containers.md").read_text()
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]

StartDaemon = Callable[..., Daemon]


def block(beginning: str) -> str:
    """The block of the page that begins so."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [b for b in blocks if b.startswith(beginning)]
    return found


def words_of(instruction: str) -> list[str]:
    """The JSON list behind an instruction of the Dockerfile."""
    match = re.search(rf"^{instruction} .*?(\[.*\])$", block("FROM"), re.MULTILINE)
    assert match is not None
    words = json.loads(match[1])
    assert isinstance(words, list)
    return words


class Container:
    """The daemon as PID 1 of a namespace; its paths are those of a directory here."""

    def __init__(self, directory: Path, start: StartDaemon, config: str, **options: Any) -> None:
        self.directory = directory
        self.daemon = start(text=self.place(config), prefix=NAMESPACE, ready=False, **options)
        self.daemon.socket = directory / "pypoold.sock"
        self.pid = eventually(lambda: self._inner(), "the daemon") or 0

    def place(self, text: str) -> str:
        return text.replace("/run/pypoold/", f"{self.directory}/").replace("/srv/app", str(self.directory))

    def _inner(self) -> int:
        found = [p.pid for p in procfs.children(self.daemon.pid) if "pypoold" in p.command]
        return found[0] if found else 0

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As docker exec does it."""
        command = ["nsenter", "--target", str(self.pid), "--pid", "--mount", "--root", "--", *map(self.program, words)]
        environment = {**os.environ, "PYPOOL_SOCKET": str(self.daemon.socket)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * SLOW, check=False)

    def program(self, word: str) -> str:
        return str(BUILD / Path(word).name) if Path(word).name in ("pypoold", "pypoolctl") else word

    def stop(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def client(self) -> Client:
        return self.daemon.client()

    def records(self) -> list[dict[str, Any]]:
        """The last line may just be being written."""
        return [json.loads(line) for line in self.daemon.log().rpartition("\n")[0].splitlines()]


@pytest.fixture
def start(tmp_path: Path, start_daemon: StartDaemon) -> Iterator[Callable[..., Container]]:
    made: list[Container] = []

    def make(config: str, **options: Any) -> Container:
        made.append(Container(tmp_path, start_daemon, config, **options))
        return made[-1]

    yield make
    for container in made:
        if container.daemon.process.poll() is None:
            container.stop()
            assert container.daemon.wait() == 0, container.daemon.log_end()


def app(name: str, **settings: Any) -> str:
    return configuration({"socket": "/run/pypoold/pypoold.sock", "log_format": "json", "log_level": "debug"},
                         {"default": pool(name, 1, **settings)})


def test_the_page_is_an_image_that_works(start: Callable[..., Container], tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(block("# handlers.py"))
    entry = words_of("ENTRYPOINT")
    assert entry == ["/usr/sbin/pypoold", "--config", "/etc/pypoold/pypoold.conf"]
    container = start(block("# pypoold.conf"))
    ready = container.run(*block("pypoolctl ping").splitlines()[0].partition("#")[0].split())
    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "pong\n", "")
    healthy = container.run(*words_of("HEALTHCHECK"))
    assert (healthy.returncode, healthy.stdout) == (0, "pong\n")
    assert container.run("pypoolctl", "call", "word_count", '"to be or not to be"').stdout == "6\n"
    assert container.run("pypoolctl", "reload", "--wait").returncode == 0, "who is inside administers"
    checked = container.run("pypoold", "--check", "--config", str(container.daemon.config))
    assert checked.returncode == 0
    assert container.run("pypoolctl", "status", "--json").stdout.count('"pid": 1,') == 1, "it is PID 1"
    container.stop()
    assert container.daemon.wait() == 0
    records = container.records()
    assert [r["event"] for r in records if r["level"] not in ("info", "debug")] == []
    assert records[0]["event"] == "daemon.start" and records[-1]["event"] == "daemon.stop"
    assert all(list(r)[:3] == ["time", "level", "event"] for r in records)


def test_a_line_of_a_handler_is_an_object_with_its_call(start: Callable[..., Container]) -> None:
    container = start(app("nasty"))
    container.run("pypoolctl", "ping", "--wait")
    with container.client() as c:
        c.execute("write", "stdout", 'a "line"\n', traceparent="trace")
        eventually(lambda: [r for r in container.records() if r.get("text") == 'a "line"'], "the line")
    (line,) = [r for r in container.records() if r["event"] == "worker.output"]
    assert (line["pool"], line["source"], line["traceparent"]) == ("default", "stdout", "trace") and line["call"] > 0


def test_pid_1_drains_and_a_second_signal_does_not_wait(start: Callable[..., Container]) -> None:
    container = start(app("nasty"))
    container.run("pypoolctl", "ping", "--wait")
    with container.client() as c, container.client() as observer:
        running = c.start_execute("sleep", 1.5)
        wait_running(observer, "sleep")
        container.stop()
        container.daemon.wait_log('"event":"daemon.draining"')
        assert c.fail_execute("echo", 1).code == "draining"
        assert c.wait(running).value() == 1.5
        c.wait_closed()
    assert container.daemon.wait() == 0


def test_a_second_signal_ends_what_runs(start: Callable[..., Container]) -> None:
    container = start(app("nasty"))
    container.run("pypoolctl", "ping", "--wait")
    with container.client() as c, container.client() as observer:
        running = c.start_execute("sleep", 60)
        wait_running(observer, "sleep")
        container.stop(signal.SIGINT)
        container.daemon.wait_log('"event":"daemon.draining"')
        container.stop()
        assert c.wait_error(running).code == "cancelled"
    assert container.daemon.wait() == 0


def test_pid_1_reaps_what_is_left_to_it(start: Callable[..., Container]) -> None:
    container = start(app("nasty"))
    container.run("pypoolctl", "ping", "--wait")
    orphans = container.run("sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; true")
    assert orphans.returncode == 0
    eventually(lambda: len([r for r in container.records() if r["event"] == "stray.reaped"]) >= 5, "all are reaped")
    eventually(lambda: not [p for p in procfs.processes() if p.parent == container.pid and p.state == "Z"], "and no other is left")
    with container.client() as c:
        assert c.execute("echo", 1) == 1


def test_a_configuration_that_is_refused_ends_with_78() -> None:
    text = 'pool "default" { app = "nasty" min_worker = 1 }\n'
    done = subprocess.run([str(BUILD / "pypoold"), "--config", "/dev/stdin"], input=text, capture_output=True, text=True,
                          timeout=30 * SLOW, check=False)
    assert (done.returncode, done.stdout) == (78, "") and done.stderr.startswith("/dev/stdin:1: ")


def test_ready_is_later_than_alive(start: Callable[..., Container], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "slow.py").write_text(f"open({str(gate)!r}).close()\n")
    container = start(app("slow", path=[str(tmp_path), str(APPS)]))
    assert container.run("pypoolctl", "ping", "--wait").returncode == 0
    early = container.run("pypoolctl", "ping", "--ready")
    assert early.returncode == 1 and "is not ready" in early.stderr and early.stdout == ""
    told: list[subprocess.CompletedProcess[str]] = []
    waiting = threading.Thread(target=lambda: told.append(container.run("pypoolctl", "ping", "--ready", "--wait", "30")))
    waiting.start()
    gate.write_text("")
    waiting.join()
    assert (told[0].returncode, told[0].stdout) == (0, "pong\n")


def test_a_pool_that_cannot_start_ends_the_daemon_if_it_shall(start: Callable[..., Container]) -> None:
    container = start("require_all = yes\n" + app("import_error"))
    assert container.daemon.wait() == 1
    assert "daemon.require_all" in [r["event"] for r in container.records()]
