"""The demo application, and every example of docs/worker.md, through a real worker."""
from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Dict, Iterator, List, Tuple

import pytest

from tests.support.worker_harness import ROOT, Reply, WorkerHarness, session

PAGE = os.path.join(ROOT, "docs", "worker.md")


@pytest.fixture(scope="module")
def demo() -> Iterator[WorkerHarness]:
    with WorkerHarness("pypool_worker.demo", path=[]) as worker:
        worker.start()
        yield worker


def test_word_count_counts_text_and_files(demo: WorkerHarness, tmp_path: pathlib.Path) -> None:
    value = demo.call("word_count", "The cat saw the other cat; the cat's tail.").value
    assert (value["words"], value["distinct"], value["top"][0]) == (9, 6, ["the", 3])
    (tmp_path / "text").write_text("one two two", encoding="utf-8")
    assert demo.call("word_count", path=str(tmp_path / "text"), top=1).value["top"] == [["two", 2]]
    assert "give either text or path" in demo.call("word_count").message


@pytest.mark.parametrize("with_numpy", [True, False])
def test_csv_stats_says_what_computed_it(tmp_path: pathlib.Path, with_numpy: bool) -> None:
    if with_numpy:
        pytest.importorskip("numpy")
    else:
        (tmp_path / "numpy.py").write_text("raise ImportError('hidden for the test')\n")
    with WorkerHarness("pypool_worker.demo", path=[str(tmp_path)]) as worker:
        worker.start()
        value = worker.call("csv_stats", "name,x,y\na,1,2\nb,3,2\n").value
        assert value["engine"].split()[0] == ("numpy" if with_numpy else "statistics")
        assert value["rows"] == 2 and list(value["columns"]) == ["x", "y"]
        assert value["columns"]["x"] == pytest.approx(
            {"count": 2, "mean": 2.0, "median": 2.0, "stdev": 2 ** 0.5, "min": 1.0, "max": 3.0})
        sample = worker.call("csv_stats").value
        assert sample["rows"] == 48 and list(sample["columns"]) == ["temperature_c", "rain_mm", "wind_ms"]


def test_the_demo_fails_and_talks_on_purpose(demo: WorkerHarness) -> None:
    assert "ValueError: the demo fails on purpose, demo.py line" in demo.call("fail").message
    assert demo.call("noisy", 2).value == 2
    demo.wait_for_output("stderr", "wrote 4 lines")
    assert demo.call("echo", [1]).value == [1]
    assert demo.call("sleep", 0).error is None and demo.call("busy_c", 0.01).error is None
    assert demo.call("busy_python", 0.001).value > 0


@pytest.mark.parametrize("target,args,status", [("exit", [3], 3), ("crash", [9], -9)])
def test_the_demo_dies_on_purpose(target: str, args: List[int], status: int) -> None:
    with WorkerHarness("pypool_worker.demo", path=[]) as worker:
        worker.start()
        worker.request(target, args)
        assert worker.wait() == status


def examples() -> List[Tuple[str, str]]:
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(r"```python\n(.*?)```\n```calls\n(.*?)```", file.read(), re.S)


def test_every_block_of_the_page_is_an_example() -> None:
    with open(PAGE, encoding="utf-8") as file:
        assert file.read().count("```") == 4 * len(examples()) > 0


def called_as_written(worker: WorkerHarness, line: str, sessions: Dict[str, int]) -> Reply:
    """`close session NAME`, or `TARGET [ARGS] [in session NAME]`; the sessions that there are, by name."""
    called, _, name = line.partition(" in session ")
    if called.startswith("close session "):
        name = called.rpartition(" ")[2]
        return worker.close_session(sessions.pop(name), name)
    target, _, args = called.partition(" ")
    fields = {}
    if name:
        known = name in sessions
        fields["session"] = session(sessions.setdefault(name, len(sessions) + 1), name, values=None if known else {})
    worker.request(target, json.loads(args) if args else None, **fields)
    return worker.receive()


@pytest.mark.parametrize("code,calls", examples())
def test_the_examples_of_the_page_do_what_it_says(tmp_path: pathlib.Path, code: str, calls: str) -> None:
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    with WorkerHarness("example", path=[str(tmp_path)]) as worker:
        worker.start()
        sessions: Dict[str, int] = {}
        for line in calls.splitlines():
            called, expected = line.split(" → ")
            reply = called_as_written(worker, called, sessions)
            if reply.error is None:
                assert reply.value == json.loads(expected), line
            else:
                code_expected, words = expected.split(": ", 1)
                assert reply.code == code_expected and words in reply.message, (line, reply.error)
