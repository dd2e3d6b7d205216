"""The man pages are well formed and complete: each says what the code it describes has."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.wire import ROOT, error_table, method_table

BUILD = Path(os.environ.get("PYPOOL_BUILD") or ROOT / "build")
SOURCES = ROOT / "docs" / "man"
PAGES = sorted(path.stem for path in SOURCES.glob("*.scd"))

FUNCTION = re.compile(
    r"^(?:PYPOOL_API (?:PYPOOL_MUST_USE )?|(?=typedef void pypool_(?:done|notify)))(.*?\);)", re.DOTALL | re.MULTILINE
)


def source(page: str) -> str:
    return (SOURCES / f"{page}.scd").read_text()


def entry(page: str, name: str) -> str:
    """What is said below the paragraph that begins with this name in bold."""
    match = re.search(rf"^\*{re.escape(name)}\*[^\n]*\n((?:\t[^\n]*\n|\n(?=\t))+)", source(page), re.MULTILINE)
    assert match is not None, f"{page} has no entry {name}"
    return re.sub(r"\s+", " ", match[1]).strip()


def options(table: str) -> list[tuple[str, str]]:
    """Names and defaults of a table of daemon/config_options.c; "" where there is none, or another one is computed."""
    text = (ROOT / "daemon" / "config_options.c").read_text()
    body = re.search(rf"struct option_spec {table}\[\] = \{{(.*?)\n\}};", text, re.DOTALL)
    assert body is not None
    rows = re.findall(r'\{ "(\w+)", OPTION_\w+, [^"]*?, (?:NULL|"([^"]*)"), ', body[1])
    assert len(rows) == len(re.findall(r'\{ "', body[1]))
    return rows


def prototypes() -> dict[str, str]:
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "client" / "pypool.h").read_text(), flags=re.DOTALL)
    found = [re.sub(r"\s+", " ", match) for match in FUNCTION.findall(header)]
    return {re.findall(r"(pypool_\w+)\(", prototype)[0]: prototype for prototype in found}


def test_all_pages_are_there() -> None:
    expected = "libpypool.3 pypool-protocol.7 pypool_worker.7 pypoolctl.1 pypoold.8 pypoold.conf.5"
    assert PAGES == expected.split()


@pytest.mark.parametrize("page", PAGES)
def test_man_has_nothing_to_say_against_a_page(page: str) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    command = ["man", "--warnings", "-l", str(BUILD / "man" / page)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in done.stdout and "@VERSION@" not in done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_pages_that_there_are(page: str) -> None:
    name, _, section = page.rpartition(".")
    assert source(page).startswith(f'{name}({section}) "')
    for other, number in re.findall(r"\*((?:lib)?pypool[\w.-]*)\*\((\d)\)", source(page)):
        assert f"{other}.{number}" in PAGES


TABLES = ["config_top_options", "config_pool_options", "config_access_options"]


@pytest.mark.parametrize("table", TABLES)
def test_every_option_is_in_the_page_with_its_default(table: str) -> None:
    for name, fallback in options(table):
        text = entry("pypoold.conf.5", name)
        if fallback:
            assert text.endswith(f"Default: {fallback}."), name


def test_the_page_has_no_option_that_is_not_there() -> None:
    known = {name for table in TABLES for name, _ in options(table)}
    assert set(re.findall(r"^\*(\w+)\* = ", source("pypoold.conf.5"), re.MULTILINE)) == known


def test_every_option_of_the_daemon_is_in_its_page() -> None:
    main = (ROOT / "daemon" / "main.c").read_text()
    names = re.findall(r'\{ "(\w+)", (?:no|required|optional)_argument', main)
    assert len(names) >= 7
    for name in names:
        assert re.search(rf"^(\*-\w\*, )?\*--{name}\*", source("pypoold.8"), re.MULTILINE), name


def test_every_command_is_in_the_page_of_pypoolctl() -> None:
    table = (ROOT / "client" / "ctl" / "commands.c").read_text()
    commands = re.findall(r'\{ "(\w+)",\s*"([^"]*)"', table)
    assert len(commands) >= 10
    for name, arguments in commands:
        line = re.search(rf"^\*{name}\*(.*)$", source("pypoolctl.1"), re.MULTILINE)
        assert line is not None and entry("pypoolctl.1", name)
        assert re.sub(r"[*_]", "", line[1]).strip() == arguments.replace("_", ""), name


def test_every_exit_status_of_pypoolctl_is_in_its_page() -> None:
    header = (ROOT / "client" / "ctl" / "ctl.h").read_text()
    for status in re.findall(r"^\tCTL_\w+ = (\d+),", header, re.MULTILINE):
        assert entry("pypoolctl.1", status)


def test_every_method_is_in_the_page_of_the_protocol() -> None:
    for method in method_table():
        line = re.search(rf"^\*{method.name}\*(.*)$", source("pypool-protocol.7"), re.MULTILINE)
        assert line is not None, method.name
        assert sorted(re.findall(r"_(\w+)_", line[1])) == sorted(method.keys), method.name
        assert line[1].endswith(f"({method.role})"), method.name
        assert entry("pypool-protocol.7", method.name)


def test_the_errors_are_those_of_errors_h() -> None:
    rows = re.findall(r"^\|\[ _(\w+)_\n:< (\w+)\n:< (.*)$", source("pypool-protocol.7"), re.MULTILINE)
    assert rows == [(e.name, e.executed, e.meaning) for e in error_table()]


def test_every_function_is_in_the_page_of_the_library_as_it_is_declared() -> None:
    blocks = re.findall(r"^```\n(.*?)^```$", source("libpypool.3"), re.MULTILINE | re.DOTALL)
    shown = re.sub(r"\s+", " ", " ".join(blocks))
    assert len(prototypes()) > 30
    for name, prototype in prototypes().items():
        assert prototype in shown, name


def test_the_page_of_the_library_names_only_functions_that_there_are() -> None:
    known = {*prototypes(), "pypool_lease", "pypool_options", "pypool_reply", "pypool_span", "pypool_error"}
    known |= {"pypool_executed", "pypool_get_", "pypool_session"}
    assert set(re.findall(r"\b(pypool_\w+)", source("libpypool.3"))) <= known


def test_what_the_package_of_the_worker_exports_is_in_its_page() -> None:
    package = (ROOT / "python_worker" / "pypool_worker" / "__init__.py").read_text()
    exported = re.search(r"^__all__ = \[(.*?)\]$", package, re.MULTILINE | re.DOTALL)
    assert exported is not None
    for name in set(re.findall(r'"(\w+)"', exported[1])) - {"Context"}:
        assert f"*{name}*" in source("pypool_worker.7"), name


def test_libpypool_describes_each_option_of_a_call() -> None:
    header = (ROOT / "client" / "pypool.h").read_text()
    body = re.search(r"^struct pypool_options \{\n(.*?)^\};", header, re.DOTALL | re.MULTILINE)
    assert body is not None
    fields = re.findall(r"^\t[^;]*?(\w+);", body[1], re.MULTILINE)
    assert len(fields) >= 8
    described = re.findall(r"^\|\[ _(\w+)_$", source("libpypool.3"), re.MULTILINE)
    assert [name for name in fields if name not in described] == []
