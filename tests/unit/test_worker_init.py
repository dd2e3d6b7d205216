"""A real worker from exec to ready, or to the reason why not."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from typing import Any, Dict, Tuple

from tests.support.worker_harness import APPS, RUN_WORKER, WorkerHarness


def write(directory: pathlib.Path, **modules: str) -> Tuple[str]:
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    return (str(directory),)


def failed(app: str, **options: Any) -> Tuple[Dict[str, Any], WorkerHarness]:
    with WorkerHarness(app, **options) as worker:
        name, fields = worker.init()
        assert name == "failed", (name, fields)
        assert worker.wait() == 1
    return fields, worker


def test_hello_phases_and_ready_come_in_order(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, early="", late="from pypool_worker import after_fork, on_start\n"
                                          "def warm(): pass\non_start(warm)\nafter_fork(lambda: 1 / 0)\n")
    before = time.monotonic_ns()
    with WorkerHarness(modules=["slow_import", "late"], preload=["early", "json"], warmup="late:warm",
                       path=[APPS, *path], environment={"PYPOOL_TEST_SECONDS": "0"}) as worker:
        targets = worker.start()
        assert worker.hello["protocol"] == 1 and worker.hello["pid"] == worker.pid
        assert worker.hello["python"] == "%d.%d.%d" % sys.version_info[:3] and worker.hello["codec"] == "c"
        times = [before, worker.hello["t_ns"], *(phase["t_ns"] for phase in worker.phases), time.monotonic_ns()]
        assert times == sorted(times)
        assert [(p["name"], p.get("module")) for p in worker.phases] == [
            ("preload", "early"), ("preload", "json"), ("imports", "nasty"), ("imports", "slow_import"),
            ("imports", "late"), ("warmup", None), ("start", None)]
        assert "echo" in targets and "slow_import:echo" in targets
        assert worker.call("slow_import:echo", 7).value == 7
        assert worker.stop() == 0


def test_fault_58_descriptors_are_3_to_6_close_on_exec_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, fds="import os\nfrom pypool_worker import expose\n"
                               "@expose\ndef inheritable(): return [os.get_inheritable(fd) for fd in range(3, 7)]\n")
    with WorkerHarness("fds", path=path) as worker:
        worker.start()
        inherited = {fd for fd in os.listdir("/proc/self/fd") if int(fd) > 6 and os.path.exists(f"/proc/self/fd/{fd}")
                     and os.get_inheritable(int(fd))}
        kinds = {fd: kind for fd, kind in worker.open_fds().items() if str(fd) not in inherited}
        assert kinds == {0: "/dev/null", 1: "pipe", 2: "pipe", 3: "socket", 4: "socket", 5: "pipe", 6: "/memfd"}
        assert worker.call("inheritable").value == [False] * 4


def test_sys_path_and_argv_hold_what_the_pool_says_and_nothing_of_the_worker(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, paths="import sys\nfrom pypool_worker import expose\n"
                                 "@expose\ndef look(): return [sys.path, sys.argv, '' in sys.path]\n")
    with WorkerHarness("paths", path=[*path, "/srv/second"]) as worker:
        worker.start()
        sys_path, argv, has_cwd = worker.call("look").value
    assert sys_path[:2] == [str(tmp_path), "/srv/second"] and argv == ["paths"] and not has_cwd
    assert os.path.dirname(RUN_WORKER) not in sys_path


def test_fault_52_a_missing_import_names_the_users_file_and_line() -> None:
    fields, worker = failed("import_error")
    assert fields["phase"] == "imports" and fields["type"] == "ModuleNotFoundError"
    assert fields["file"] == os.path.join(APPS, "import_error.py") and fields["line"] == 2
    assert "a_module_that_does_not_exist" in fields["traceback"]
    assert "a_module_that_does_not_exist" in worker.stderr()


def test_a_missing_app_says_where_it_was_searched() -> None:
    fields, worker = failed("no_such_app", path=["/srv/nowhere"])
    assert fields["message"] == "No module named 'no_such_app'"
    searched = "searched in /srv/nowhere (no such directory) and in what is installed for "
    assert fields["summary"].startswith("ModuleNotFoundError: No module named 'no_such_app'; " + searched)
    assert searched in worker.stderr()


def test_an_import_error_three_modules_deep_names_the_chain(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, app="import b\n", b="\nimport c\n", c="\n\nimport nosuch\n")
    fields, _ = failed("app", path=path)
    assert fields["summary"].startswith("ModuleNotFoundError: No module named 'nosuch', c.py line 3, imported by b.py "
                                        f"line 2, imported by app.py line 1; neither in {tmp_path} nor installed for ")
    assert fields["imported_by"] == [{"file": str(tmp_path / "b.py"), "line": 2},
                                     {"file": str(tmp_path / "app.py"), "line": 1}]


def test_a_misspelt_app_gets_the_near_names(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, orders="", other="")
    fields, _ = failed("order", path=path)
    assert fields["summary"].endswith("; did you mean orders?")


def test_output_and_traceback_of_an_app_that_dies_are_complete() -> None:
    fields, worker = failed("dies_noisy")
    assert (fields["type"], fields["message"]) == ("RuntimeError", "licence server refused")
    assert fields["file"].endswith("dies_noisy.py") and fields["line"] == 6
    assert "pypool_worker" not in fields["traceback"] and "importlib" not in fields["traceback"]
    assert "about to connect" in worker.stdout() and "no cache" in worker.stderr()
    assert "RuntimeError: licence server refused" in worker.stderr()


def test_a_syntax_error_has_its_own_place() -> None:
    fields, _ = failed("syntax_error")
    assert fields["type"] == "SyntaxError" and fields["file"].endswith("syntax_error.py") and fields["line"] == 4


def test_a_preload_that_fails_has_its_own_phase() -> None:
    fields, _ = failed("nasty", preload=["import_error"])
    assert (fields["phase"], fields["type"], fields["line"]) == ("preload", "ModuleNotFoundError", 2)


def test_what_is_exposed_while_preloading_counts_as_the_apps(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, first="from pypool_worker import expose\n@expose\ndef one(): return 1\n",
                 app="import first\n", listed="from pypool_worker import expose\n@expose\ndef two(): return 2\n")
    with WorkerHarness("app", path=path, preload=["first", "listed"], modules=["listed"]) as worker:
        assert worker.start() == ["listed:two", "one"]


def test_fault_33_sys_exit_in_an_import_is_a_failure() -> None:
    fields, worker = failed("exits_in_import")
    assert (fields["type"], fields["message"], fields["line"]) == ("SystemExit", "3", 5)
    assert "usage:" in worker.stdout()


def test_a_failing_start_hook_and_warmup_fail_in_their_phase(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, hook="from pypool_worker import on_start\n@on_start\ndef warm(): raise OSError('cold')\n",
                 warm="def up(): return 1 / 0\n")
    fields, _ = failed("hook", path=path)
    assert (fields["phase"], fields["type"], fields["line"]) == ("start", "OSError", 3)
    fields, _ = failed("warm", path=path, warmup="warm:up")
    assert (fields["phase"], fields["type"]) == ("warmup", "ZeroDivisionError")
    assert fields["file"] == str(tmp_path / "warm.py")
    fields, _ = failed("warm", path=path, warmup="warm:missing")
    assert fields["phase"] == "warmup" and "missing" in fields["message"]


def test_hooks_run_around_the_calls_and_stop_hooks_backwards(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, hooks="""
from pypool_worker import expose, on_start, on_stop
seen = []
on_start(lambda: seen.append("start"))
def warm(): seen.append("warmup")
@on_stop
def first(): print("stop: first registered")
@on_stop
def second(): raise SystemExit(5)
@on_stop
def third(): print("stop: last registered")
@expose
def look(): return seen
""")
    with WorkerHarness("hooks", path=path, warmup="hooks:warm") as worker:
        worker.start()
        assert worker.call("look").value == ["warmup", "start"]
        assert worker.stop() == 0
        assert worker.stdout() == "stop: last registered\nstop: first registered\n"
        assert "SystemExit: 5" in worker.stderr()


def test_fault_53_a_hanging_import_answers_pings_and_shows_its_stack() -> None:
    with WorkerHarness("hangs_in_import") as worker:
        worker.expect("hello")
        worker.send_control("init", {"app": "hangs_in_import", "path": [APPS], "modules": [], "warmup": None})
        assert worker.expect("phase")["module"] == "hangs_in_import"
        worker.wait_for_frame("wait_for_licence")
        worker.send_control("ping", {"seq": 7})
        assert worker.expect("pong") == {"seq": 7}
        assert "hangs_in_import.py\", line 6 in wait_for_licence" in worker.dump()[0]


def test_stop_during_an_import_leaves_at_its_end_without_ready(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "gate")
    path = write(tmp_path, gated=f"open({str(tmp_path / 'gate')!r}).read()\nprint('imported')\n"
                                 "from pypool_worker import on_start\non_start(lambda: print('hook'))\n")
    with WorkerHarness("gated", path=path) as worker:
        worker.expect("hello")
        worker.send_control("init", {"app": "gated", "path": path, "modules": ["never"], "warmup": None})
        worker.expect("phase")
        worker.send_control("stop", {})
        worker.send_control("ping", {"seq": 1})
        worker.expect("pong")
        (tmp_path / "gate").write_text("open")
        assert worker.wait() == 0
        assert worker.stdout() == "imported\n"
        assert worker.control.recv(100) == b""


def test_stop_before_init_exits_0() -> None:
    with WorkerHarness() as worker:
        worker.expect("hello")
        assert worker.stop() == 0


def test_eof_on_control_ends_a_hanging_import() -> None:
    with WorkerHarness("hangs_in_import") as worker:
        worker.expect("hello")
        worker.send_control("init", {"app": "hangs_in_import", "path": [APPS], "modules": [], "warmup": None})
        worker.wait_for_frame("wait_for_licence")
        worker.control.close()
        assert worker.wait() == 1


def test_an_app_that_exposes_nothing_is_told_on_stderr(tmp_path: pathlib.Path) -> None:
    with WorkerHarness("empty", path=write(tmp_path, empty="def f(): pass\n")) as worker:
        assert worker.start() == []
        worker.wait_for_output("stderr", "empty exposes nothing")
        assert "put @expose on it in empty" in worker.call("f").message


def test_started_by_hand_it_says_who_starts_it() -> None:
    done = subprocess.run([sys.executable, RUN_WORKER], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "started by pypoold" in done.stderr


def test_more_targets_than_a_packet_holds_do_not_stop_the_start(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, many="from pypool_worker import expose\n"
                                "for n in range(3000): expose(name=f'{n:0150}')(lambda n=n: n)\n")
    with WorkerHarness("many", path=path) as worker:
        assert len(worker.start()) > 100
        assert worker.call(f"{2999:0150}").value == 2999
