"""The units: installed into a root of their own, systemd finds nothing to complain about."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, ROOT

UNITS = "usr/local/lib/systemd/system"


def make(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """`make install` of what is built, and the targets that a real machine has."""
    command = ["make", "-o", "all", "install", f"DESTDIR={tmp_path}", f"BUILD={BUILD}", "PREFIX=/usr/local"]
    make(command)
    system = tmp_path / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for name in ("sysinit", "basic", "sockets", "shutdown", "network", "multi-user"):
        shutil.copy(f"/lib/systemd/system/{name}.target", system)
    return tmp_path


def complaints(root: Path, unit: str) -> str:
    command = ["systemd-analyze", "verify", f"--root={root}", "--recursive-errors=no", unit]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    "unit", ["pypoold.service", "pypoold.socket", "pypoold-metrics.socket", "pypoold-metrics@.service"]
)
def test_systemd_has_nothing_to_say_about_an_installed_unit(installed: Path, unit: str) -> None:
    assert (installed / UNITS / unit).exists()
    # of a template systemd looks at an instance
    assert complaints(installed, unit.replace("@.", "@1.")) == ""


def test_systemd_would_have_said_something_about_a_broken_one(installed: Path) -> None:
    file = installed / UNITS / "pypoold.service"
    file.write_text(file.read_text().replace("Restart=on-failure", "Restart=perhaps"))
    assert "perhaps" in complaints(installed, "pypoold.service")


@pytest.mark.parametrize("unit", ["pypoold.service", "pypoold-metrics@.service"])
def test_a_service_starts_the_binary_that_was_installed(installed: Path, unit: str) -> None:
    text = (installed / UNITS / unit).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    program = Path(line.removeprefix("ExecStart=").split()[0])
    assert (installed / program.relative_to("/")).stat().st_mode & 0o111


def test_uninstall_leaves_only_the_configuration(installed: Path) -> None:
    shutil.rmtree(installed / "usr/lib")
    command = ["make", "uninstall", f"DESTDIR={installed}", "PREFIX=/usr/local"]
    make(command)
    left = sorted(p.relative_to(installed).as_posix() for p in installed.rglob("*") if not p.is_dir())
    assert left == ["etc/pypoold/pypoold.conf"]
