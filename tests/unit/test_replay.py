"""python3 -m pypool_worker.replay: what it shows, what it refuses, and that the call runs as a worker would run it."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import msgpack
import pytest

from tests.support.wire import ROOT

APP = '''
import os, signal, sys
from pypool_worker import current, expose, on_start, on_stop

WARM = []

@on_start
def start():
    WARM.append("start")

@on_stop
def stop():
    print("stopped", file=sys.stderr)

def warm():
    WARM.append("warmup")

@expose
def divide(a, b=1):
    return a / b

@expose
def look():
    return [WARM, sorted(os.environ), os.environ.get("COLOUR"), current().traceparent, current().call_id, sys.argv]

@expose
def misfit():
    return object()

@expose
def big():
    return "x" * 5000

@expose
def leave():
    sys.exit(3)

@expose
def die():
    os.kill(os.getpid(), signal.SIGSEGV)
'''


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "replayed.py").write_text(APP)
    (tmp_path / "broken.py").write_text("raise RuntimeError('licence server refused')\n")
    return tmp_path


def record(where: Path, target: str, args: Any = None, name: str = "p-1700000000000-17.call", **fields: Any) -> Path:
    """A recording as daemon/pool/recorder.c writes it."""
    known: Dict[str, Any] = {
        "format": 1, "version": "0.1.0", "time_ms": 1700000000000, "pool": "p", "app": "replayed", "path": [str(where)],
        "modules": [], "warmup": None, "python": sys.executable, "environment": ["COLOUR=red=blue", "LANG=C.UTF-8"],
        "limit_nofile": 0, "limit_as": 0, "max_reply": 4096, "uid": None, "call": 17, "worker": 3, "run_ms": 12,
        "timeout_ms": 30000, "code": "app_error", "message": "ZeroDivisionError: division by zero", "executed": "yes",
        "cause": {"traceback": "Traceback of then\n"}, "target": target, "traceparent": None, "args": args,
    }
    known.update(fields)
    path = where / name
    path.write_bytes(msgpack.packb(known, use_bin_type=True))
    return path


def replay(*arguments: object, stdin: str = "", environment: Optional[Dict[str, str]] = None,
           python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command: List[str] = [python, "-B", "-m", "pypool_worker.replay", *map(str, arguments)]
    inherited = {**os.environ, "PYTHONPATH": str(ROOT / "python_worker"), **(environment or {})}
    return subprocess.run(command, input=stdin, env=inherited, capture_output=True, text=True, timeout=60, check=False)


def test_the_exception_is_raised_again_and_its_traceback_has_no_frames_of_ours(app: Path) -> None:
    done = replay(record(app, "divide", [1, 0]))
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "raised again: ZeroDivisionError: division by zero, replayed.py line" in done.stderr
    assert "pypool_worker/replay.py" not in done.stderr
    assert "stopped" in done.stderr, "the stop hooks run, as in a worker"


def test_a_call_that_works_now_prints_its_result_on_stdout_alone(app: Path) -> None:
    done = replay(record(app, "divide", {"a": 6, "b": 3}))
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr
    assert "Recorded was: app_error" in done.stderr


def test_the_call_sees_the_pools_environment_and_nothing_else_after_hooks_and_warmup(app: Path) -> None:
    file = record(app, "look", warmup="replayed:warm", traceparent="00-ab-cd-01")
    done = replay(file, environment={"NOT_OF_THE_POOL": "1"})
    warm, names, colour, traceparent, call, argv = eval(done.stdout)
    assert warm == ["warmup", "start"]
    assert {"COLOUR", "LANG"} <= set(names) <= {"COLOUR", "LANG", "LC_CTYPE"}
    assert (colour, traceparent, call, argv) == ("red=blue", "00-ab-cd-01", 17, ["replayed"])


def test_what_is_recorded_is_shown_without_the_values_of_the_environment_and_not_run(app: Path) -> None:
    done = replay("--list", record(app, "die", [1, "two"], environment=["PASSWORD=hunter2"]))
    assert done.returncode == 0
    for part in ("die", "1, 'two'", "app_error: ZeroDivisionError", "PASSWORD", str(app), "Traceback of then"):
        assert part in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_directory_is_listed_by_time_with_what_cannot_be_read_told(app: Path) -> None:
    record(app, "divide", name="p-1700000000002-1.call")
    record(app, "misfit", name="q-1700000000001-2.call")
    (app / "p-1700000000003-3.call").write_bytes(b"\xc1")
    done = replay("--list", app)
    assert done.returncode == 2
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["q-1700000000001-2.call", "p-1700000000002-1.call"]
    assert "p-1700000000003-3.call: it is not one MessagePack value" in done.stderr


@pytest.mark.parametrize("data, why", [
    (b"", "not one MessagePack value"), (msgpack.packb([1]), "no map"),
    (msgpack.packb({"format": 2}), "its format is 2"), (msgpack.packb({"format": 1}), "incomplete"),
])
def test_what_is_no_recording_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x.call").write_bytes(data)
    done = replay(tmp_path / "x.call")
    assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    done = replay(tmp_path / "nothing.call")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No such file" in done.stderr
    assert replay().returncode == 2


def test_another_python_than_the_pools_is_told_what_to_run(app: Path) -> None:
    file = record(app, "divide", [6, 3], python="/opt/py/bin/python3")
    done = replay(file)
    assert done.returncode == 3
    assert f"PYTHONPATH={ROOT / 'python_worker'} /opt/py/bin/python3 -m pypool_worker.replay {file}" in done.stderr
    assert replay("--any-python", file).stdout == "2.0\n"


def test_a_virtual_environment_is_another_python_although_the_program_is_the_same(app: Path) -> None:
    (app / "venv" / "bin").mkdir(parents=True)
    (app / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (app / "venv" / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    assert replay(record(app, "divide", [6, 3], python=str(app / "venv" / "bin" / "python3"))).returncode == 3


def test_an_application_that_cannot_be_imported_and_a_target_that_is_gone_are_4(app: Path) -> None:
    done = replay(record(app, "divide", app="broken"))
    assert done.returncode == 4 and "licence server refused" in done.stderr
    done = replay(record(app, "divid"))
    assert done.returncode == 4 and "divide" in done.stderr


@pytest.mark.parametrize("target, code, told", [("misfit", 1, "unserializable"), ("big", 1, "too_large"),
                                                ("leave", 1, "SystemExit: 3")])
def test_what_a_worker_could_not_have_answered_fails_again(app: Path, target: str, code: int, told: str) -> None:
    done = replay(record(app, target))
    assert (done.returncode, done.stdout) == (code, "") and told in done.stderr


def test_a_call_that_kills_its_process_kills_replay_with_its_stack(app: Path) -> None:
    done = replay(record(app, "die"))
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr and "in die" in done.stderr


def test_pdb_opens_where_the_exception_was_raised(app: Path) -> None:
    done = replay("--pdb", record(app, "divide", [7, 0]), stdin="p a * 6\nq\n")
    assert "return a / b" in done.stdout and "42" in done.stdout
    assert done.returncode == 1


def test_break_stops_at_the_first_line_of_the_handler(app: Path) -> None:
    done = replay("--break", record(app, "divide", [7, 0]), stdin="b_was = b\n!b = 7\nc\n")
    assert "-> return a / b" in done.stdout
    assert done.returncode == 0 and "1.0" in done.stdout
    assert replay("--break", record(app, "divide", [7, 0]), stdin="q\n").returncode == 1
