"""What systemd/debian says again must be what is said elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.daemon import ROOT

DEBIAN = ROOT / "systemd" / "debian"
# how debian/control asks for a package of .ci/packages; build-essential is always there
ASKED_AS = {
    "build-essential": "",
    "check": "check <!nocheck>",
    "debhelper": "debhelper-compat (= 13)",
    "dh-python": "dh-sequence-python3",
    "procps": "procps <!nocheck>",
    "python3": "python3:any",
}


def words(path: Path, pattern: str) -> list[Any]:
    """All matches in a file, line by line."""
    return re.findall(pattern, path.read_text(), re.MULTILINE)


def test_the_version_is_that_of_the_daemon() -> None:
    (newest, *_) = words(DEBIAN / "changelog", r"^pypoold \(([^)]*)\)")
    assert newest == (ROOT / "VERSION").read_text().strip()


def test_the_symbols_are_those_of_the_library() -> None:
    (version,) = words(ROOT / "client" / "libpypool.map", r"^(\w+) \{")
    names = words(ROOT / "client" / "libpypool.map", r"^\t(\w+);")
    assert names
    listed = words(DEBIAN / "libpypool1.symbols", r"^ (\S+) \S+$")
    assert sorted(listed) == sorted(f"{name}@{version}" for name in [version, *names])


def packages_of(*groups: str) -> set[str]:
    return {name for group, name in words(ROOT / ".ci" / "packages", r"^([\w-]+)\s+(\S+)$") if group in groups}


def test_what_it_is_built_with_is_what_make_deb_installs() -> None:
    (listed,) = words(DEBIAN / "control", r"^Build-Depends:\n((?: .*\n)+)")
    asked = {line.strip(" ,") for line in listed.splitlines()} - {"dh-sequence-installsysusers"}  # of debhelper itself
    assert asked == {ASKED_AS.get(name, name) for name in packages_of("build", "deb")} - {""}


def test_every_manual_page_is_in_a_package() -> None:
    lines = [line for file in DEBIAN.glob("*.install") for line in file.read_text().splitlines()]
    for page in (ROOT / "docs" / "man").glob("*.scd"):
        place = f"usr/share/man/man{page.stem[-1]}"
        assert {place, f"{place}/{page.stem}"} & set(lines), page.stem
