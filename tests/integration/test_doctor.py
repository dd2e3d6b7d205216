"""`pypoolctl doctor`: each thing that can be wrong is found, and told with what to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.daemon import APPS, BUILD, SANITIZED, SLOW, Daemon, pool
from tests.support.fake_daemon import FakeDaemon, Peer
from tests.support.users import ALICE, OPEN, make_reachable, needs_root, reachable
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
Finding = dict[str, Any]

KEYS = ["check", "level", "pool", "message", "advice"]
GOOD_UNIT = {
    "LoadState": "loaded", "Type": "notify", "NotifyAccess": "main", "KillMode": "mixed", "TimeoutStopUSec": "1min",
    "WatchdogUSec": "10s", "FileDescriptorStoreMax": "0", "PrivateUsers": "no", "User": "pypool", "Restart": "on-failure",
    "NeedDaemonReload": "no",
}


def run(path: Path, *arguments: str, environment: dict[str, str] | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
    build = reachable().build if "user" in how else BUILD
    command = [str(build / "pypoolctl"), "--socket", str(path), *arguments]
    return subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True,
                          timeout=60 * SLOW, check=False, **how)


def doctor(path: Path, *arguments: str, **how: Any) -> list[Finding]:
    """What it finds; the shape and the exit status are checked."""
    done = run(path, "doctor", "--json", *arguments, **how)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert list(told) == ["errors", "warnings", "findings"]
    findings = told["findings"]
    assert isinstance(findings, list)
    for finding in findings:
        assert list(finding) == KEYS and finding["message"]
        assert finding["level"] in ("ok", "warning", "error")
    levels = [finding["level"] for finding in findings]
    assert (told["errors"], told["warnings"]) == (levels.count("error"), levels.count("warning"))
    assert done.returncode == (1 if told["errors"] else 0)
    return findings


def find(findings: list[Finding], check: str, level: str, message: str, pool: str | None = None) -> Finding:
    """The one finding of that kind; what is not ok has advice."""
    found = [f for f in findings if (f["check"], f["level"], f["pool"]) == (check, level, pool) and message in f["message"]]
    assert len(found) == 1, f"{check} {level} {message!r} in {findings}"
    return found[0]


def trouble(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f["level"] != "ok"]


def config_file(directory: Path, options: str = "") -> Path:
    path = directory / "pypoold.conf"
    path.write_text(f'socket = "{directory}/none.sock"\npool "default" {{\n  app = "shows"\n  path = {{"{APPS}"}}\n{options}\n}}\n')
    return path


# ---- a daemon that is well

def test_a_daemon_that_is_well_has_no_trouble(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1), "forked": pool("shows", 1, start="fork")})
    with daemon.client() as c:
        eventually(lambda: bool(c.call("pools")[1]["template"]["state"] == "warm"), "it is warm")
    findings = doctor(daemon.socket)
    assert trouble(findings) == []
    assert str(daemon.pid) in find(findings, "daemon", "ok", "is running")["message"]
    assert "admin" in find(findings, "role", "ok", "")["message"]
    find(findings, "socket", "ok", f"{daemon.socket} (0660 ")
    find(findings, "configuration", "ok", "what is in force")
    find(findings, "template", "ok", "warm", "forked")
    find(findings, "python", "ok", "/usr/bin/python3 is Python 3.", "default")
    find(findings, "codec", "ok", "in C", "default")
    find(findings, "init", "ok", "imports shows", "default")
    find(findings, "memory", "ok", "weigh", "default")
    find(findings, "limits", "ok", "open files")
    text = run(daemon.socket, "doctor")
    assert text.returncode == 0 and text.stdout.endswith("\n0 errors, 0 warnings\n")
    assert text.stdout.startswith(f"ok       socket: {daemon.socket} ")
    assert run(daemon.socket, "doctor", "me").returncode == 2


def test_a_file_that_is_named_relative_to_a_directory(start_daemon: StartDaemon, tmp_path: Path) -> None:
    start = ["/usr/bin/env", "-C", str(tmp_path)]
    daemon = start_daemon({"default": pool("shows", 1)}, directory=tmp_path, prefix=start, arguments=["--config", "pypoold.conf"])
    find(doctor(daemon.socket, cwd="/"), "configuration", "ok", "what is in force")
    with daemon.client() as c:
        shown = c.call("config.show")
    assert shown["files"] == [str(daemon.config)]
    assert shown["options"]["log_level"]["source"].startswith(f"{daemon.config}:")
    alone = doctor(tmp_path / "none.sock", "--config", "pypoold.conf", cwd=tmp_path)
    find(alone, "configuration", "ok", "accepted")


# ---- the socket

def test_no_daemon(tmp_path: Path) -> None:
    conf = config_file(tmp_path)
    findings = doctor(tmp_path / "none.sock", "--config", str(conf))
    assert "systemctl start" in find(findings, "socket", "error", f"no socket {tmp_path}/none.sock")["advice"]
    find(findings, "configuration", "ok", "accepted")
    find(findings, "python", "ok", "Python 3.", "default")
    find(doctor(tmp_path / "a" / "b.sock", "--config", str(conf)), "socket", "error", f"no directory {tmp_path}/a:")


def test_a_stale_socket_and_what_is_none(tmp_path: Path) -> None:
    conf = str(config_file(tmp_path))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "stale"))
    find(doctor(tmp_path / "stale", "--config", conf), "socket", "error", "stale")
    find(doctor(Path(conf), "--config", conf), "socket", "error", "is no socket")
    find(doctor(Path("/" + "x" * 200), "--config", conf), "socket", "error", "107 bytes")


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "hangs"))
        s.listen(8)
        findings = doctor(tmp_path / "hangs", "--config", str(config_file(tmp_path)))
        assert "WatchdogSec" in find(findings, "socket", "error", "does not answer")["advice"]


def test_a_directory_in_which_everybody_may_write(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    daemon.directory.chmod(0o777)
    finding = find(doctor(daemon.socket), "socket", "warning", "everybody may put another socket in its place")
    assert finding["advice"] == f"chmod o-w {daemon.directory}"


@needs_root
def test_a_socket_that_one_may_not_use(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    as_alice = {"user": ALICE, "group": ALICE, "extra_groups": []}
    finding = find(doctor(daemon.socket, "--config", "/dev/null", **as_alice), "socket", "error", f"may not be used by uid {ALICE}")
    assert "usermod --append --groups root" in finding["advice"]
    daemon.socket.chmod(0o600)
    finding = find(doctor(daemon.socket, "--config", "/dev/null", **as_alice), "socket", "error", "0600 root:root")
    assert "socket_group" in finding["advice"]
    daemon.directory.chmod(0o700)
    find(doctor(daemon.socket, "--config", "/dev/null", **as_alice), "socket", "error", f"{daemon.directory} (0700 root:root) is closed")


# ---- versions and roles

def test_a_daemon_of_another_version(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet(version="9.9.9", role="use")
        while request := peer.receive():
            peer.answer(request[1], error={"code": "denied", "message": "no", "executed": "never"})

    fake = FakeDaemon(tmp_path / "fake", script)
    findings = doctor(tmp_path / "fake")
    fake.close()
    assert "systemctl restart" in find(findings, "version", "warning", "pypoold is 9.9.9")["advice"]
    find(findings, "role", "warning", "role use")
    assert len(findings) == 3


@needs_root
def test_who_may_not_see_the_configuration_is_told_what_the_rest_says(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("threaded", 1, start="fork", call_timeout="0")}, **OPEN)
    with daemon.client() as c:
        eventually(lambda: bool(c.call("pools")[0]["template"]["state"] == "unfit"), "it is unfit")
    findings = doctor(daemon.socket, user=ALICE, group=ALICE, extra_groups=[])
    assert "root" in find(findings, "role", "warning", "role observe")["advice"]
    find(findings, "template", "warning", "thread: telemetry", "default")
    assert not [f for f in findings if f["check"] in ("options", "configuration", "limits")]


# ---- files

def test_files_that_say_something_else_or_are_broken(start_daemon: StartDaemon) -> None:
    settings = pool("shows", 1)
    daemon = start_daemon({"default": settings})
    daemon.write_config({"default": {**settings, "call_timeout": "31s"}}, max_clients=9)
    finding = find(doctor(daemon.socket), "configuration", "warning", "something else")
    assert finding["message"].endswith(": max_clients, default.call_timeout") and "reload" in finding["advice"]
    daemon.write_config({"default": {**settings, "cal_timeout": "31s"}})
    finding = find(doctor(daemon.socket), "configuration", "warning", "are refused")
    assert "cal_timeout" in finding["advice"] and f"{daemon.config}:" in finding["advice"]


def test_refused_files_without_a_daemon_are_an_error(tmp_path: Path) -> None:
    finding = find(doctor(tmp_path / "s", "--config", str(config_file(tmp_path, "min_workers = x"))), "configuration", "error", "refused")
    assert f"{tmp_path}/pypoold.conf:5: " in finding["advice"]


# ---- interpreters and directories

def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_an_interpreter_that_has_gone_or_never_was_one(start_daemon: StartDaemon, tmp_path: Path) -> None:
    python = script(tmp_path / "python", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    daemon = start_daemon({"default": pool("shows", 1, python=str(python))})
    assert trouble(doctor(daemon.socket)) == []
    python.write_text("#!/bin/sh\necho Perl 5\n")
    assert "by hand" in find(doctor(daemon.socket), "python", "error", "no Python that works", "default")["advice"]
    python.write_text("#!/bin/sh\necho no library >&2; exit 3\n")
    find(doctor(daemon.socket), "python", "error", "does not run: no library", "default")
    python.write_text("#!/bin/sh\necho pypool-probe 3 8 c\n")
    find(doctor(daemon.socket), "python", "error", "Python 3.8, and 3.9 is the oldest", "default")
    python.chmod(0o644)
    find(doctor(daemon.socket), "python", "error", "not executable", "default")
    python.unlink()
    find(doctor(daemon.socket), "python", "error", "No such file", "default")


@needs_root
def test_root_runs_an_interpreter_as_the_user_of_its_workers(start_daemon: StartDaemon, tmp_path: Path) -> None:
    python = script(tmp_path / "python", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    make_reachable(tmp_path)
    daemon = start_daemon({"default": pool("shows", 1, python=str(python), user="nobody", environment=["SECRET=word"])})
    python.write_text('#!/bin/sh\necho "$(id -u) $(id -G) $SECRET $OLDPWD$PWD ${PYPOOL_SOCKET-none}" >&2; exit 1\n')
    told = find(doctor(daemon.socket, environment={"PYPOOL_SOCKET": "here"}), "python", "error", "does not run", "default")
    assert told["message"].split(": ")[1].split() == ["65534", "65534", "word", "/", "none"]


def test_a_python_without_msgpack_in_c(start_daemon: StartDaemon, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)], check=True)
    daemon = start_daemon({"default": pool("shows", 1, python=f"{venv}/bin/python3")})
    findings = doctor(daemon.socket)
    finding = [f for f in findings if f["check"] == "codec"]
    assert [f["level"] for f in finding] == ["warning", "warning"], "workers have it, and the interpreter has it"
    assert all(f"{venv}/bin/python3 -m pip install msgpack" in f["advice"] for f in finding)


def test_a_directory_that_has_gone(start_daemon: StartDaemon, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    daemon = start_daemon({"default": pool("shows", 1, path=[str(APPS), str(gone)])})
    gone.rmdir()
    find(doctor(daemon.socket), "path", "error", f"no directory {gone}", "default")


# ---- pools

def test_a_pool_that_cannot_start(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"bad": pool("import_error", 1, breaker_failures=1), "good": pool("shows", 1)})
    findings = doctor(daemon.socket)
    finding = find(findings, "start", "error", "a_module_that_does_not_exist", "bad")
    assert "pypoolctl why pool bad" in finding["advice"]
    with daemon.client() as c:
        eventually(lambda: bool(c.call("pools")[0]["breaker"]["state"] == "open"), "it is open")
        c.call("pool.pause", pool="good")
    findings = doctor(daemon.socket)
    find(findings, "breaker", "error", "refused", "bad")
    find(findings, "paused", "warning", "calls wait", "good")


def test_imports_are_told_by_package_and_with_their_failure(start_daemon: StartDaemon, tmp_path: Path) -> None:
    (tmp_path / "snail").mkdir()
    (tmp_path / "snail" / "__init__.py").write_text("import snail.shell\n")
    (tmp_path / "snail" / "shell.py").write_text("import time; time.sleep(0.2)\n")
    (tmp_path / "garden.py").write_text("import sys; print('hello', file=sys.stderr)\nimport snail\nimport pypool_worker\n")
    daemon = start_daemon({"default": pool("garden", 1, path=[str(tmp_path)], preload=["json"], init_timeout="20s")})
    finding = find(doctor(daemon.socket, "--imports"), "imports", "ok", "the slowest", "default")
    first = finding["message"].partition("(ms): ")[2].split(", ")[0].split()
    assert first[0] == "snail" and float(first[1]) >= 200
    assert "pypool_worker" not in finding["message"]
    (tmp_path / "garden.py").write_text("import weeds\n")
    finding = find(doctor(daemon.socket, "--imports"), "imports", "error", "No module named 'weeds'", "default")
    assert "why pool default" in finding["advice"]


def test_imports_that_do_not_end(tmp_path: Path) -> None:
    conf = config_file(tmp_path, '  init_timeout = "500ms"')
    conf.write_text(conf.read_text().replace('"shows"', '"hangs_in_import"'))
    find(doctor(tmp_path / "s", "--imports", "--config", str(conf)), "imports", "error", "do not end", "default")


def test_an_init_that_is_near_its_limit(start_daemon: StartDaemon) -> None:
    slow = pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=2"], init_timeout="3900ms")
    daemon = start_daemon({"default": slow})
    finding = find(doctor(daemon.socket), "init", "warning", "of the 3900 ms of init_timeout", "default")
    assert "imports slow_import" in finding["message"]


# ---- options, limits, memory

def test_options_that_will_bite(start_daemon: StartDaemon) -> None:
    cores = os.cpu_count() or 1
    daemon = start_daemon({"default": pool(
        "shows", 1, call_timeout="0", ping_interval="0", breaker_failures=0, max_queue=0,
        environment=[f"OMP_NUM_THREADS={cores + 1}"], max_rss="1024G")}, **OPEN)
    findings = doctor(daemon.socket)
    for words in ("call_timeout = 0", "ping_interval = 0", "breaker_failures = 0", "max_queue = 0", f"OMP_NUM_THREADS={cores + 1}"):
        find(findings, "options", "warning", words, "default")
    find(findings, "options", "warning", "socket_mode = 0666 and no access block")
    find(findings, "memory", "warning", "max_rss", "default")
    assert all(f["advice"] for f in trouble(findings))


def test_access_blocks_make_an_open_socket_fine(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)}, access={"all": {"uid": ["*"], "role": "use"}}, **OPEN)
    assert trouble(doctor(daemon.socket)) == []


@pytest.mark.skipif(SANITIZED, reason="sanitizers need more files")
def test_too_few_files(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)}, prefix=["prlimit", "--nofile=700:800"], max_clients=1000)
    finding = find(doctor(daemon.socket), "limits", "warning", "700 open files: max_clients = 1000 and 2 workers may need 1056")
    assert "LimitNOFILE=1056" in finding["advice"]


@needs_root
@pytest.mark.skipif(SANITIZED, reason="sanitizers need more files")
def test_limits_of_a_daemon_that_is_not_root(start_daemon: StartDaemon, tmp_path: Path) -> None:
    make_reachable(tmp_path)
    tmp_path.chmod(0o777)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--nproc=1:1", "--nofile=900:900"]
    daemon = start_daemon(
        text=f'socket = "{tmp_path}/s"\npool "a" {{ app = "shows" path = {{"{reachable().apps}"}} min_workers = 0 limit_nofile = 2000 start = exec }}\n',
        prefix=as_nobody, program=reachable().build / "pypoold", ready=False)
    daemon.socket = tmp_path / "s"
    daemon.wait_log(r"listener\.open")
    findings = doctor(daemon.socket)
    find(findings, "limits", "error", "limit_nofile = 2000 is above the daemon's own limit of 900", "a")
    find(findings, "limits", "warning", "uid 65534 may have 1 processes")
    tmp_path.chmod(0o755)
    daemon.discard()


# ---- the unit

def fake_systemctl(directory: Path, **properties: str) -> dict[str, str]:
    """An environment whose systemctl tells these of any unit, beside what is good."""
    lines = "".join(f"{name}={value}\n" for name, value in {**GOOD_UNIT, **properties}.items())
    directory.mkdir(exist_ok=True)
    (directory / "said").write_text(lines)
    script(directory / "systemctl", f'#!/bin/sh\necho "$@" >"{directory}/asked"\ncat "{directory}/said"\n')
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


UNITS: list[tuple[dict[str, str], str, str]] = [
    ({"Type": "simple"}, "warning", "Type is not notify"),
    ({"NotifyAccess": "none"}, "error", "NotifyAccess=none"),
    ({"WatchdogUSec": "0"}, "warning", "no watchdog"),
    ({"Restart": "no"}, "warning", "stays dead"),
    ({"KillMode": "control-group"}, "warning", "KillMode"),
    ({"KillMode": "process"}, "warning", "without FileDescriptorStoreMax"),
    ({"KillMode": "process", "FileDescriptorStoreMax": "19"}, "warning", "need 20"),
    ({"TimeoutStopUSec": "39s 999ms"}, "warning", "TimeoutStopSec is 39 s, and drain_timeout with stop_timeout takes up to 40 s"),
    ({"PrivateUsers": "yes"}, "error", "65534"),
    ({"User": ""}, "warning", "runs as root"),
    ({"NeedDaemonReload": "yes"}, "warning", "has not read it again"),
    ({"LoadState": "not-found"}, "warning", "systemd does not know pypoold@x.service"),
]


def test_a_unit_and_all_that_can_be_wrong_with_it(tmp_path: Path) -> None:
    conf = str(config_file(tmp_path, "min_workers = 1  max_workers = 1"))

    def look(**properties: str) -> list[Finding]:
        environment = fake_systemctl(tmp_path / "bin", **properties)
        findings = doctor(tmp_path / "s", "--config", conf, "--unit", "pypoold@x.service", environment=environment)
        return [f for f in findings if f["check"] == "unit"]

    assert [f["message"] for f in look()] == ["pypoold@x.service is as it should be"]
    assert (tmp_path / "bin" / "asked").read_text().endswith("-- pypoold@x.service\n")
    assert trouble(look(KillMode="process", FileDescriptorStoreMax="20", TimeoutStopUSec="infinity", Type="notify-reload")) == []
    for properties, level, words in UNITS:
        (finding,) = look(**properties)
        assert finding["level"] == level and words in finding["message"], properties


def test_a_drain_without_end(tmp_path: Path) -> None:
    conf = config_file(tmp_path)
    conf.write_text("drain_timeout = 0\n" + conf.read_text())
    environment = fake_systemctl(tmp_path / "bin")
    findings = doctor(tmp_path / "s", "--config", str(conf), "--unit", "u.service", environment=environment)
    assert "infinity" in find(findings, "unit", "warning", "drain_timeout = 0 has no end")["advice"]


def test_a_systemctl_that_fails(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "systemctl", "#!/bin/sh\necho no bus >&2\nexit 1\n")
    findings = doctor(tmp_path / "s", "--config", str(config_file(tmp_path)), "--unit", "u.service",
                      environment={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    find(findings, "unit", "warning", "failed: no bus")


# ---- what others say does not act

def test_what_others_say_does_not_act_on_the_terminal(start_daemon: StartDaemon, tmp_path: Path) -> None:
    python = script(tmp_path / "python", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    daemon = start_daemon({"default": pool("shows", 1, python=str(python))})
    python.write_text("#!/bin/sh\nprintf '\\033[31mred\\nmore' >&2; exit 1\n")
    said = run(daemon.socket, "doctor").stdout
    assert "\x1b" not in said and "\\x1b[31mred\\x0amore" in said


def test_pypoold_show_is_what_config_show_answers(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    done = subprocess.run([str(BUILD / "pypoold"), "--show", "--config", str(daemon.config)], capture_output=True, check=True,
                          env=daemon._environment({}, traced=False))
    with daemon.client() as c:
        assert msgpack.unpackb(done.stdout) == c.call("config.show")
    assert done.stderr == b""
