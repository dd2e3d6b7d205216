"""docs/client.md shows the example files as they are, and the examples compile against the library that was built."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PYPOOL_BUILD") or ROOT / "build")
EXAMPLES = ROOT / "client" / "examples"
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
HEADER = (ROOT / "client" / "pypool.h").read_text(encoding="utf-8")
C_EXAMPLES = sorted(file.name for file in EXAMPLES.glob("*.c"))


@pytest.mark.parametrize("name", sorted(file.name for file in EXAMPLES.iterdir()))
def test_the_page_shows_the_example_as_it_is(name: str) -> None:
    blocks = re.findall(r"^```(?:c|js)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert (EXAMPLES / name).read_text(encoding="utf-8") in blocks


@pytest.mark.parametrize("name", C_EXAMPLES)
@pytest.mark.parametrize("library", ["libpypool.so", "libpypool.a"])
def test_examples_compile_without_a_warning(name: str, library: str, tmp_path: Path) -> None:
    if not (BUILD / library).exists():
        pytest.skip("the library is not built")
    sanitizers = ["-fsanitize=address,undefined"] if "asan" in BUILD.name else []
    sanitizers += ["--coverage"] if "cov" in BUILD.name else []
    done = subprocess.run(
        [os.environ.get("CC", "gcc"), "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", *sanitizers,
         f"-I{ROOT / 'client'}", "-o", str(tmp_path / "example"), str(EXAMPLES / name), str(BUILD / library), "-lmsgpackc",
         *(["-lev"] if name == "libev.c" else [])],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_node_example_is_well_formed() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    subprocess.run([node, "--check", str(EXAMPLES / "node.mjs")], check=True)


def test_the_map_exports_exactly_what_the_header_declares() -> None:
    declared = set(re.findall(r"^PYPOOL_API .*?\b(pypool_\w+)\(", HEADER, re.MULTILINE))
    exported = set(re.findall(r"^\t(pypool_\w+);$", (ROOT / "client" / "libpypool.map").read_text(), re.MULTILINE))
    assert declared == exported and len(declared) > 30


@pytest.mark.parametrize("library,arguments", [("libpypool.so", ["-D"]), ("libpypool.a", ["-g"])])
def test_the_libraries_define_what_the_header_declares_and_nothing_else(library: str, arguments: list[str]) -> None:
    if not (BUILD / library).exists():
        pytest.skip("the library is not built")
    done = subprocess.run(["nm", *arguments, "--defined-only", str(BUILD / library)], capture_output=True, text=True,
                          check=True)
    defined = {line.split()[2].split("@")[0] for line in done.stdout.splitlines() if len(line.split()) == 3}
    declared = set(re.findall(r"^PYPOOL_API .*?\b(pypool_\w+)\(", HEADER, re.MULTILINE))
    assert {name for name in defined if not name.startswith("PYPOOL_")} == declared


def test_the_page_knows_every_letter_of_the_format() -> None:
    letters = set(re.findall(r"^ \*   (\S)  ", HEADER, re.MULTILINE))
    assert letters and all(f"`{letter}`" in PAGE for letter in letters)
