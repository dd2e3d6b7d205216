"""The worker under other Pythons, and in a venv: the msgpack that comes with pypoold serves those that have none."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.support.pythons import other_pythons
from tests.support.worker_harness import CANCELLED, WorkerHarness, install_worker


def work(python: str, run_worker: str, codec: str) -> None:
    """A little of everything."""
    with WorkerHarness(python=python, run_worker=run_worker) as worker:
        worker.start()
        assert worker.hello["codec"] == codec
        assert worker.call("echo", {"a": [1, "ü", b"\xff", None, 2 ** 63, 1.5]}).value == {
            "a": [1, "ü", b"\xff", None, 2 ** 63, 1.5]}
        assert worker.call("raise_chained").code == "app_error"
        assert worker.call("unserializable").message.startswith('result["a"][3] is a set')
        assert worker.call("deep", 100).error is None and worker.call("deep", 600).code == "unserializable"
        assert worker.call("big", 1_000_000).value == b"\xa5" * 1_000_000
        worker.send_raw(b"\x94\x00\x09\xa7execute\x91\x82\xa6target\xa4echo\xa4args\x81\x91\x01\x02")
        assert worker.receive().code == "bad_request"
        worker.send_raw(b"\x94\x00\x09\xa7execute\x91\x82\xa6target\xa4echo\xa4args" + b"\x91" * 3000 + b"\xc0")
        assert worker.receive().code == "bad_request"
        put = worker.in_session("put", "b", [1, "ü"], values={"a": 2 ** 63})
        assert put.meta["session"] == {"set": {"b": [1, "ü"]}}
        assert worker.in_session("put", "c", b"x" * 2000).error is None
        assert worker.in_session("values").value == {"a": 2 ** 63, "b": [1, "ü"], "c": b"x" * 2000}
        assert worker.in_session("values", values={"d": "x" * 2000}).value == {"d": "x" * 2000}
        with worker.direct() as client:
            value = {"a": [2 ** 63, "ü", b"\xff" * 100_000]}
            assert client.call("echo", value) == value
            assert client.error("sleep", 60, timeout_ms=20)["code"] == "deadline_exceeded"
            client.send_raw(b"\x94\x00\x09\xa7execute\x91\x82\xa6target\xa4echo\xa4args" + b"\x91\xa2\xff\xfe")
            assert client.receive()[2]["code"] == "bad_request"
            client.send_raw(b"\xc1")
            assert client.receive()[2]["code"] == "bad_msgpack"
        assert worker.receive().value == {"calls": 2, "errors": 1}
        for target, args in (("sleep", [60]), ("busy_python", [60])):
            call = worker.request(target, args)
            worker.wait_for_frame(target)
            worker.interrupt(call, CANCELLED)
            assert worker.receive().code == "cancelled"
        assert worker.stop() == 0
        assert worker.stdout() == "goodbye from on_stop\n" and worker.stderr() == ""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return install_worker(str(tmp_path_factory.mktemp("library")))


def test_a_venv_without_msgpack_uses_the_fallback(installed: str, tmp_path: pathlib.Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    work(str(tmp_path / "venv/bin/python3"), installed, "python")


def test_the_interpreters_own_msgpack_is_preferred(installed: str) -> None:
    work(sys.executable, installed, "c")


def test_no_msgpack_at_all_is_told(tmp_path: pathlib.Path, installed: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("run_worker.py", "pypool_worker"):
        (alone / name).symlink_to(os.path.join(os.path.dirname(installed), name))
    (alone / "run_worker.py").unlink()
    (alone / "run_worker.py").write_bytes(pathlib.Path(installed).read_bytes())
    with WorkerHarness(python=str(tmp_path / "venv/bin/python3"), run_worker=str(alone / "run_worker.py")) as worker:
        assert worker.wait() == 2
        assert "msgpack cannot be imported by" in worker.stderr() and "alone/fallback" in worker.stderr()


@pytest.mark.skipif(not other_pythons(), reason="no other Pythons are installed under ~/.pyenv")
@pytest.mark.parametrize("python", other_pythons())
def test_it_works_with_other_pythons(installed: str, python: str) -> None:
    work(python, installed, "python")
