"""A pool whose workers do not come up: each caller is told why, at once, with the place in the application."""

from __future__ import annotations

import re
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.diagnosis.telling import AT, DATA, SYSTEM, check_init, pool
from tests.support import daemon
from tests.support.client import CallError
from tests.support.daemon import Daemon
from tests.support.pythons import other_pythons

StartDaemon = Callable[..., Daemon]
RAISED = "type message file line traceback"


def failure_of(start_daemon: StartDaemon, settings: dict[str, daemon.Value]) -> CallError:
    with start_daemon({"default": settings}).client() as c:
        return c.fail_execute("anything")


def phases(cause: dict[str, Any]) -> list[str]:
    assert all(phase["ms"] >= 0 for phase in cause["init"])
    return [phase["phase"] for phase in cause["init"]]


def test_the_app_is_missing(start_daemon: StartDaemon) -> None:
    cause = check_init(
        failure_of(start_daemon, pool("no_such_app")),
        rf"ModuleNotFoundError: No module named 'no_such_app'; searched in {AT} and in what is installed for {SYSTEM}",
        "type message traceback",
    )
    assert phases(cause) == ["exec", "interpreter", "library", "imports"]
    assert cause["init"][-1]["module"] == "no_such_app"


def test_the_app_is_misspelt(start_daemon: StartDaemon) -> None:
    check_init(
        failure_of(start_daemon, pool("shopp")),
        rf"ModuleNotFoundError: No module named 'shopp'; searched in {AT} and in what is installed for {SYSTEM}; "
        r"did you mean shop\?",
        "type message traceback",
    )


def test_path_does_not_exist(start_daemon: StartDaemon) -> None:
    settings = pool("shop")
    settings["path"] = ["/srv/nowhere"]
    check_init(
        failure_of(start_daemon, settings),
        r"ModuleNotFoundError: No module named 'shop'; searched in /srv/nowhere \(no such directory\) and in what is "
        rf"installed for {SYSTEM}",
        "type message traceback",
    )


def test_syntax_error(start_daemon: StartDaemon) -> None:
    cause = check_init(
        failure_of(start_daemon, pool("broken")),
        r"SyntaxError: '\(' was never closed, broken\.py line 4",
        RAISED,
    )
    assert "    def total(prices:\n" in cause["traceback"]


def test_syntax_error_in_what_the_app_imports(start_daemon: StartDaemon) -> None:
    cause = check_init(
        failure_of(start_daemon, pool("imports_broken")),
        r"SyntaxError: '\(' was never closed, broken\.py line 4, imported by imports_broken\.py line 2",
        f"{RAISED} imported_by",
    )
    assert cause["imported_by"] == [{"file": str(DATA / "imports_broken.py"), "line": 2}]


def test_import_error_three_modules_deep(start_daemon: StartDaemon) -> None:
    cause = check_init(
        failure_of(start_daemon, pool("chain_app")),
        r"ModuleNotFoundError: No module named 'a_currency_library_that_nobody_has', chain_money\.py line 3, imported by "
        r"chain_orders\.py line 3, imported by chain_app\.py line 3; "
        rf"neither in {AT} nor installed for {SYSTEM}",
        f"{RAISED} imported_by",
    )
    assert (cause["file"], cause["line"]) == (str(DATA / "chain_money.py"), 3)
    assert [(Path(who["file"]).name, who["line"]) for who in cause["imported_by"]] == [
        ("chain_orders.py", 3),
        ("chain_app.py", 3),
    ]


@pytest.mark.parametrize("python, last", [
    ("/usr/bin/python9", "cannot start /usr/bin/python9: No such file or directory"),
    ("/usr/bin", "cannot start /usr/bin: Permission denied"),
    ("/etc/hostname", "cannot start /etc/hostname: (Exec format error|Permission denied)"),
    ("/bin/true", r"/bin/true exited with status 0 before it was a worker: is it a Python\?"),
    ("/bin/false", r"/bin/false exited with status 1 before it was a worker: is it a Python\?"),
])
def test_wrong_interpreter(start_daemon: StartDaemon, python: str, last: str) -> None:
    check_init(failure_of(start_daemon, pool("shop", python=python)), last)


def old_pythons() -> list[str]:
    found = Path.home().glob(".pyenv/versions/*/bin/python")
    return sorted(str(p) for p in found if re.search(r"/(2\.7|3\.[0-8])\.", str(p)))


@pytest.mark.skipif(not old_pythons(), reason="no Python below 3.9 under pyenv")
def test_interpreter_that_is_too_old(start_daemon: StartDaemon) -> None:
    for python in old_pythons():
        version = python.split("/versions/")[1].split("/")[0]
        check_init(
            failure_of(start_daemon, pool("shop", python=python)),
            rf"{re.escape(python)} exited with status 1 before it was a worker; its last words: pypoold needs Python "
            rf"3\.9 or newer, and this is {re.escape(version)}",
        )


def bare_venv(directory: Path) -> str:
    venv.create(directory, symlinks=True, with_pip=False)
    return str(directory / "bin" / "python")


def test_venv_without_a_package_that_another_python_has(start_daemon: StartDaemon, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    python = bare_venv(tmp_path / "venv")
    cause = check_init(
        failure_of(start_daemon, pool("needs_numpy", python=python)),
        rf"ModuleNotFoundError: No module named 'numpy', needs_numpy\.py line 2; not installed for {re.escape(python)} "
        rf"\(Python 3\.\d+\.\d+\): {re.escape(python)} -m pip install numpy, or set python of the pool to "
        r"/usr/bin/python3, which has it",
        RAISED,
    )
    assert (cause["file"], cause["line"]) == (str(DATA / "needs_numpy.py"), 2)


@pytest.mark.skipif(not other_pythons(), reason="no other Python under pyenv")
def test_pyenv_without_a_package(start_daemon: StartDaemon) -> None:
    python = other_pythons()[-1]
    check_init(
        failure_of(start_daemon, pool("needs_numpy", python=python)),
        rf"ModuleNotFoundError: No module named 'numpy', needs_numpy\.py line 2; not installed for {re.escape(python)} "
        rf"\(Python [\d.]+\): {re.escape(python)} -m pip install numpy(, or set python of the pool to /usr/bin/python3, "
        r"which has it)?",
        RAISED,
    )


def test_system_python_without_a_package_that_a_venv_beside_the_app_has(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "wants.py").write_text("import tqdm_of_ours\n")
    python = Path(bare_venv(tmp_path / ".venv"))
    version = "%d.%d" % sys.version_info[:2]
    (tmp_path / ".venv" / "lib" / f"python{version}" / "site-packages" / "tqdm_of_ours.py").write_text("")
    settings = pool("wants")
    settings["path"] = [str(tmp_path)]
    check_init(
        failure_of(start_daemon, settings),
        rf"ModuleNotFoundError: No module named 'tqdm_of_ours', wants\.py line 1; not installed for {SYSTEM}: "
        rf"set python of the pool to {re.escape(str(python))}, which has it",
        RAISED,
    )
    settings["python"] = str(python)
    with start_daemon({"default": settings}).client() as c:  # the advice is good
        assert c.fail_execute("anything").code == "unknown_target"


def test_print_on_stdout_at_import_stands_in_the_output_of_the_failure(start_daemon: StartDaemon) -> None:
    cause = check_init(
        failure_of(start_daemon, pool("chatty")),
        r"ConnectionError: licence server refused, chatty\.py line 6",
        RAISED,
    )
    assert "connecting to the licence server" in cause["output"]
    assert "ConnectionError: licence server refused" in cause["output"]
