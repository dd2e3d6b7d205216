"""The Debian packages that make deb has built, and what dpkg does with them on the machine of tests/systemd/box."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.daemon import BUILD, ROOT
from tests.systemd.machine import must

NAMES = ("libpypool1", "libpypool-dev", "python3-pypool-worker", "python3-pypool-client", "pypoold")
CONFIGURATION = Path("etc/pypoold/pypoold.conf")

# what dpkg, its triggers and systemd write about all packages
OF_OTHERS = ("/var/lib/dpkg/", "/var/cache/", "/var/log/", "/var/tmp/", "/run/systemd/", "/run/log/")
BACKUPS = {f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")} | {"/etc/.pwd.lock"}


def built() -> list[Path]:
    """The packages, without those of debug symbols."""
    version = (ROOT / "VERSION").read_text().strip()
    found = [[*(BUILD / "deb").glob(f"{name}_{version}_*.deb")] for name in NAMES]
    assert all(len(files) == 1 for files in found), f"make check-deb builds them first: {found}"
    return [files[0] for files in found]


def install(files: Iterable[Path], *options: str) -> str:
    """Or upgrade."""
    return must("dpkg", "--install", *options, *map(str, files))


def remove() -> None:
    must("dpkg", "--remove", *NAMES)


def purge() -> None:
    must("dpkg", "--purge", *NAMES)


def make_newer(files: Iterable[Path], directory: Path) -> list[Path]:
    """The same packages as a later version, which brings another configuration file."""
    newer = []
    for file in files:
        tree = directory / file.stem
        must("dpkg-deb", "--raw-extract", str(file), str(tree))
        control = tree / "DEBIAN" / "control"
        text = control.read_text()
        control.write_text(re.sub(r"^(Version: .*|Depends: .*)$", _raise_version, text, flags=re.MULTILINE))
        if (tree / CONFIGURATION).exists():
            (tree / CONFIGURATION).write_text(f"# later\n{(tree / CONFIGURATION).read_text()}")
        newer.append(directory / f"{file.stem}.newer.deb")
        must("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(newer[-1]))
    return newer


def _raise_version(line: re.Match[str]) -> str:
    version = (ROOT / "VERSION").read_text().strip()
    return re.sub(rf"((?:^Version: |\(= ){re.escape(version)})", r"\1+later", line[0])


def all_files() -> set[str]:
    """Every path on the machine where packages put something."""
    found = subprocess.run(
        ["find", "/etc", "/run", "/srv", "/usr", "/var", "-xdev"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.splitlines()
    return {path for path in found if path not in BACKUPS and not path.startswith(OF_OTHERS)}
