"""Libraries that want to know of a fork are told of it: the template then forks as the C library does."""
from __future__ import annotations

import ctypes
import pathlib
import subprocess
import sys

import pytest

from tests.support.template_harness import TemplateHarness, subreaper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python_worker"))
from pypool_worker import atfork  # noqa: E402

SOURCE = """
#include <pthread.h>
static int forks;
static void note(void) { forks++; }
__attribute__((constructor)) static void begin(void) { pthread_atfork(0, 0, note); }
int seen(void) { return forks; }
"""
APP = """
import ctypes
from pypool_worker import expose
library = ctypes.CDLL({path!r})
@expose
def seen(): return library.seen()
"""


@pytest.fixture(name="library")
def build_library(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "notes.c").write_text(SOURCE)
    built = tmp_path / "libnotes.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(built), str(tmp_path / "notes.c")], check=True)
    return built


def test_they_are_found_when_they_are_loaded(library: pathlib.Path) -> None:
    before = atfork.atfork_users()
    ctypes.CDLL(str(library))
    assert atfork.atfork_users() == sorted([*before, "libnotes.so"])


def test_what_cannot_be_looked_into_may_do_anything(library: pathlib.Path, tmp_path: pathlib.Path) -> None:
    moved = tmp_path / "libmoved.so"
    library.rename(moved)
    ctypes.CDLL(str(moved))
    moved.unlink()
    assert "libmoved.so (deleted)" in atfork.atfork_users()


def test_a_template_with_one_forks_twice_and_its_handler_runs(library: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "noting.py").write_text(APP.format(path=str(library)))
    with subreaper(), TemplateHarness("noting", path=[str(tmp_path)]) as template:
        assert template.start_template()["fork"] == "double: libnotes.so"
        with template.worker() as worker:
            worker.start()
            assert worker.call("seen").value >= 2
            assert worker.stop() == 0
