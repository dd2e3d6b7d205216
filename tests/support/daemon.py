"""A real daemon with real workers, in a directory of its own, and what must hold when it has done its work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from tests.support import procfs
from tests.support.client import Client, Framing
from tests.support.notify import NotifySocket
from tests.support.pidfds import PidfdServer
from tests.support.waiting import eventually, until_fine

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PYPOOL_BUILD") or ROOT / "build")
APPS = ROOT / "tests" / "support" / "apps"
PYTHON = "/usr/bin/python3"
# ASan keeps freed memory for a while, and its leak check does not work under strace.
SANITIZED = (BUILD / "pypoold").exists() and b"__asan_init" in (BUILD / "pypoold").read_bytes()
RUN = os.environ.get("PYPOOL_RUN", "").split()  # goes before each daemon's command: valgrind and its options
SLOW = float(os.environ.get("PYPOOL_SLOW", "1"))  # factor for all patience, for slow machines and sanitizers

PIPES_OF_A_WORKER = 3  # stdout, stderr, stack dumps
FDS_OF_A_WORKER = 8  # the most that the daemon holds for one: pidfd, two sockets, three pipes, page, one to spare

Value = Union[str, int, bool, "list[str]"]
Pool = Mapping[str, Value]

TROUBLE = re.compile(r"\bBUG\b|AddressSanitizer|LeakSanitizer|runtime error:|ThreadSanitizer|^==\d+== ", re.MULTILINE)


class DaemonFailed(AssertionError):
    """The daemon did not do what a daemon must do; carries the end of its log."""


def render(value: Value) -> str:
    """A value as the configuration file writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "{" + ", ".join(render(v) for v in value) + "}"


def configuration(
    settings: Mapping[str, Value], pools: Mapping[str, Pool], access: Mapping[str, Mapping[str, Value]] | None = None
) -> str:
    """The text of a configuration file."""
    lines = [f"{key} = {render(value)}" for key, value in settings.items()]
    sections = [*(("access", *item) for item in (access or {}).items()), *(("pool", *item) for item in pools.items())]
    for kind, name, options in sections:
        lines.append(f"{kind} {render(name)} {{")
        lines += [f"  {key} = {render(value)}" for key, value in options.items()]
        lines.append("}")
    return "\n".join(lines) + "\n"


def pool(app: str, workers: int = 2, **settings: Value) -> dict[str, Value]:
    """A pool of test workers: `app` is a module of tests/support/apps, further settings as the file names them.

    Each has an interpreter of its own, so that a test sees it start; those about forks say so.
    """
    base: dict[str, Value] = {
        "app": app,
        "python": PYTHON,
        "path": [str(APPS)],
        "start": "exec",
        "min_workers": workers,
        "max_workers": workers,
    }
    return {**base, **settings}


DEMO = pool("pypool_worker.demo")


class Daemon:
    """Starts build/pypoold in the constructor and returns when it is ready.

    pools: name → settings of the file (see pool()); access: the same of access blocks; settings: those outside. text: the whole configuration
    instead of both, `{socket}` in it is replaced. ready=False: do not wait for READY. environment: added to the
    daemon's. arguments: in the place of --config FILE. prefix: words before the command, such as strace's.
    """

    def __init__(
        self,
        pools: Mapping[str, Pool] | None = None,
        *,
        text: str | None = None,
        ready: bool = True,
        environment: Mapping[str, str] | None = None,
        arguments: list[str] | None = None,
        prefix: list[str] | None = None,
        timeout: float = 30.0,
        directory: Path | None = None,
        pass_fds: tuple[int, ...] = (),
        program: Path | None = None,
        access: Mapping[str, Mapping[str, Value]] | None = None,
        **settings: Value,
    ) -> None:
        procfs.become_subreaper()
        # short, because a socket's path is at most 107 bytes
        self.directory = directory or Path(tempfile.mkdtemp(prefix="pypool-"))
        self._owns_directory = directory is None
        self.directory.chmod(0o755)
        self.socket = self.directory / "pypoold.sock"
        self.config = self.directory / "pypoold.conf"
        self.log_file = self.directory / "log"
        self.write_config(pools or {}, text=text, access=access, **settings)
        self.notify = NotifySocket(self.directory / "notify")
        self.pidfds = PidfdServer(self.directory / "pidfds") if RUN else None
        self.timeout = timeout * SLOW
        self.stopped = False
        self._log_kept = ""
        self.baseline_fds: Counter[str] = Counter()
        self.baseline_children = 0
        command = [*(prefix or RUN), str(program or BUILD / "pypoold"), *(["--config", str(self.config)] if arguments is None else arguments)]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment(environment or {}, traced=bool(prefix)),
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.pid = self.process.pid
        if ready:
            try:
                self.wait_ready()
            except BaseException:
                self.discard()
                raise

    def _environment(self, extra: Mapping[str, str], traced: bool) -> dict[str, str]:
        keep = ("PATH", "HOME", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "LLVM_PROFILE_FILE")
        environment = {key: os.environ[key] for key in keep if key in os.environ}
        environment["NOTIFY_SOCKET"] = str(self.notify.path)
        if traced and SANITIZED:
            environment["ASAN_OPTIONS"] = "detect_leaks=0"
        if self.pidfds:
            environment["PYPOOL_PIDFDS"] = str(self.pidfds.path)
            environment["LD_PRELOAD"] = str(BUILD / "tests" / "pidfds.so")
        environment.update(extra)
        return environment

    def write_config(
        self,
        pools: Mapping[str, Pool],
        *,
        text: str | None = None,
        access: Mapping[str, Mapping[str, Value]] | None = None,
        **settings: Value,
    ) -> None:
        """(Re)write the configuration file; SIGHUP is the caller's."""
        if text is None:
            text = configuration({"socket": str(self.socket), "log_level": "debug", **settings}, pools, access)
        self.config.write_text(text.replace("{socket}", str(self.socket)))

    # ---- life

    def wait_ready(self) -> None:
        """Wait for READY=1. Raises DaemonFailed when the daemon ends or takes too long."""
        self.notify.wait(
            lambda: self.notify.find("READY", "1") is not None or self.process.poll() is not None, self.timeout
        )
        if self.notify.find("READY", "1") is None:
            how = f"ended with {self.process.returncode}" if self.process.poll() is not None else "took too long"
            raise DaemonFailed(f"not ready: {how}\n{self.log_end()}")
        self.take_baseline()

    def take_baseline(self) -> None:
        """Count what is open now, with no connection, as what a quiet daemon holds."""
        deadline = time.monotonic() + 1.0
        while True:
            before = self.baseline_fds
            self.baseline_children = len(procfs.children(self.pid))
            self.baseline_fds = procfs.fd_kinds(self.pid)
            # A worker that is just going away has lost its pipes but not yet its pidfd, or neither but still has a socket,
            # and so has a client that has just left; and this listing takes its time. Look again.
            is_whole = self.baseline_fds["pipe"] == PIPES_OF_A_WORKER * self.baseline_fds["anon_inode:[pidfd]"]
            if (is_whole and self.baseline_fds == before) or time.monotonic() > deadline:
                return
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status (negative: a signal). Raises DaemonFailed when it still runs after `timeout` seconds."""
        try:
            return self.process.wait((timeout or 20.0) * SLOW)
        except subprocess.TimeoutExpired:
            raise DaemonFailed(f"still running\n{self.log_end()}") from None

    def stop(self, *, quiet: bool = True, timeout: float = 20.0) -> None:
        """SIGTERM, and nothing may be left: no process, no complaint in the log. quiet: check_quiet() first."""
        if self.stopped:
            return
        family: list[procfs.Process] = []
        try:
            if quiet:
                self.check_quiet()
            family = procfs.descendants(self.pid)
            self.signal(signal.SIGTERM)
            status = self.wait(timeout)
            self.check_gone(family)
            self.check_log()
            assert status == 0, f"exit status {status}\n{self.log_end()}"
            assert not self.socket.exists(), "the socket's file was left behind"
        finally:
            self.discard(family)

    def kill(self) -> None:
        """SIGKILL, and its workers must follow within 2 s."""
        family = procfs.descendants(self.pid)
        self.signal(signal.SIGKILL)
        self.wait()
        self.check_gone(family)

    def discard(self, family: list[procfs.Process] | None = None) -> None:
        """End it and all that it started (`family`: what is known to be its own), whatever state it is in, and remove its
        directory. Asserts nothing."""
        self.stopped = True
        if self.process.poll() is None:
            family = [*(family or []), *procfs.descendants(self.pid)]
            self.process.kill()
            self.process.wait()
        for p in family or []:
            if p.is_alive():
                os.kill(p.pid, signal.SIGKILL)
            procfs.reap(p.pid)
        self._log_kept = self.log()
        self.notify.close()
        if self.pidfds:
            self.pidfds.close()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    # ---- what must hold

    def check_quiet(self) -> None:
        """With no call in flight: counters add up, no fd more than at the start."""
        assert self.process.poll() is None, f"the daemon has ended: {self.process.returncode}\n{self.log_end()}"
        with self.client() as c:
            until_fine(lambda: self._open_calls(c), 5.0 * SLOW)
            if self.baseline_fds:
                until_fine(lambda: self._extra_fds(c), 5.0 * SLOW)

    def _open_calls(self, c: Client) -> str:
        calls = c.call("status")["calls"]
        ended = sum(calls[key] for key in ("completed", "failed", "cancelled", "abandoned"))
        is_fine = calls["queued"] == 0 and calls["running"] == 0 and calls["accepted"] == ended
        return "" if is_fine else f"calls that did not end: {calls}"

    def _extra_fds(self, c: Client) -> str:
        extra = procfs.fd_kinds(self.pid)
        extra.subtract(self.baseline_fds)
        extra["socket"] -= int(c.call("status")["clients"])
        more_workers = max(0, len(procfs.children(self.pid)) - self.baseline_children)
        left = +extra
        is_fine = sum(left.values()) <= more_workers * FDS_OF_A_WORKER
        return "" if is_fine else f"more open fds than at the start: {dict(left)}, {more_workers} more workers"

    def check_gone(self, family: list[procfs.Process]) -> None:
        """None of these processes, and no worker that was left to us, is alive after 2 s."""

        def nobody() -> bool:
            return not self.strays(family)

        try:
            eventually(nobody, "no process left", 2.0 * SLOW)
        except AssertionError:
            raise DaemonFailed(f"processes left behind: {self.strays(family)}\n{self.log_end()}") from None
        for p in family:
            procfs.reap(p.pid)

    def strays(self, family: list[procfs.Process]) -> list[procfs.Process]:
        # a worker that came after the look at the family is our child now, since we are a subreaper
        orphans = [p for p in procfs.children(os.getpid()) if "run_worker.py" in p.command]
        return sorted({p for p in [*family, *orphans] if p.is_alive()})

    def check_log(self) -> None:
        found = [line for line in self.log().splitlines() if TROUBLE.search(line)]
        assert not found, "trouble in the log:\n" + "\n".join(found[:40])

    # ---- tools

    def client(self, *, framing: Framing = "prefixed", hello: bool = True, timeout: float = 20.0) -> Client:
        """A new connection; the caller closes it."""
        return Client(self.socket, framing=framing, hello=hello, timeout=timeout * SLOW)

    def status(self) -> dict[str, Any]:
        with self.client() as c:
            answer = c.call("status")
            assert isinstance(answer, dict)
            return answer

    def ctl(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run pypoolctl against this daemon."""
        environment = {**os.environ, "PYPOOL_SOCKET": str(self.socket)}
        command = [str(BUILD / "pypoolctl"), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout * SLOW, check=False
        )

    def log(self) -> str:
        try:
            return self.log_file.read_text(errors="replace")
        except FileNotFoundError:
            return self._log_kept

    def log_end(self, lines: int = 60) -> str:
        return "\n".join(["--- end of the daemon's log:", *self.log().splitlines()[-lines:]])

    def wait_log(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until a line of the log matches."""
        expression = re.compile(pattern, re.MULTILINE)
        found = eventually(lambda: expression.search(self.log()), f"{pattern!r} in the log", timeout * SLOW)
        assert found is not None
        return found
