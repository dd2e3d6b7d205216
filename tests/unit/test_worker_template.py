"""A real template and the workers that it forks, in both ways of forking."""
from __future__ import annotations

import os
import pathlib
from typing import Iterator, Tuple

import pytest

from tests.support.template_harness import TemplateHarness, subreaper

DOUBLE = "import pypool_worker.forking as forking\nforking.make_clone = lambda native: None\n"
HEAD = """
import os, sys, threading
from pypool_worker import after_fork, expose, on_start, on_stop
"""


def app(directory: pathlib.Path, text: str = "", way: str = "clone", name: str = "made") -> Tuple[str]:
    """A module; `way`: how its template is to fork."""
    (directory / f"{name}.py").write_text((DOUBLE if way == "double" else "") + HEAD + text)
    return (str(directory),)


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    with subreaper():
        yield


WAYS = pytest.mark.parametrize("way", ["clone", "double"])


@WAYS
def test_a_template_loads_once_and_its_workers_are_our_children(tmp_path: pathlib.Path, way: str) -> None:
    path = app(tmp_path, """
made_in = os.getpid()
seen = []
def warm(): seen.append("warmup")
@after_fork
def again(): seen.append("after_fork")
@on_start
def begin(): seen.append("start")
@on_stop
def end(): print("stopped")
@expose
def look(): return [made_in, os.getpid(), os.getppid(), os.getpgid(0), threading.get_native_id(), seen,
                    os.environ["PYPOOL_WORKER"], sys.argv, sys.path[0]]
""", way)
    with TemplateHarness("made", path=path, preload=["json"], warmup="made:warm") as template:
        told = template.start_template()
        assert (told["fork"], told["unfit"], told["fds"], told["targets"]) == (way, None, [], ["look"])
        assert [(p["name"], p.get("module")) for p in template.phases] == [
            ("preload", "json"), ("imports", "made"), ("warmup", None)]
        for number in (1, 2):
            with template.worker() as worker:
                assert worker.start() == ["look"]
                assert [p["name"] for p in worker.phases] == ["after_fork", "start"]
                assert worker.hello["pid"] == worker.pid and worker.hello["t_ns"] > told["t_ns"]
                assert worker.call("look").value == [
                    template.pid, worker.pid, os.getpid(), worker.pid, worker.pid, ["warmup", "after_fork", "start"],
                    str(number), ["made"], str(tmp_path)]
                assert worker.stop() == 0
                assert (worker.stdout(), worker.stderr()) == ("stopped\n", "")
        template.send_control("ping", {"seq": 5})
        assert template.expect("pong") == {"seq": 5}
        assert template.stop() == 0
        assert (template.stdout(), template.stderr()) == ("", "")
