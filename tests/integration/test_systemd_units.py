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
    # man pages are looked for on this machine, not in that root
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}", "--recursive-errors=no", unit]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


ALL = [
    "pypoold.service",
    "pypoold.socket",
    "pypoold-admin.socket",
    "pypoold@.service",
    "pypoold@.socket",
    "pypoold-admin@.socket",
    "pypoold-metrics.socket",
    "pypoold-metrics@.service",
]


@pytest.mark.parametrize("unit", ALL)
def test_systemd_has_nothing_to_say_about_an_installed_unit(installed: Path, unit: str) -> None:
    assert (installed / UNITS / unit).exists()
    # of a template systemd looks at an instance
    assert complaints(installed, unit.replace("@.", "@1.")) == ""


def test_systemd_would_have_said_something_about_a_broken_one(installed: Path) -> None:
    file = installed / UNITS / "pypoold.service"
    file.write_text(file.read_text().replace("Restart=on-failure", "Restart=perhaps"))
    assert "perhaps" in complaints(installed, "pypoold.service")


STARTS = [("pypoold.service", "ExecStart="), ("pypoold.service", "ExecReload=+"), ("pypoold-metrics@.service", "ExecStart=")]


@pytest.mark.parametrize("unit,command", STARTS)
def test_a_service_starts_the_binary_that_was_installed(installed: Path, unit: str, command: str) -> None:
    text = (installed / UNITS / unit).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(command)]
    program = Path(line.removeprefix(command).split()[0])
    assert (installed / program.relative_to("/")).stat().st_mode & 0o111


def test_an_instance_shares_no_path_with_the_others(installed: Path) -> None:
    for unit in ("pypoold@.service", "pypoold@.socket", "pypoold-admin@.socket"):
        text = (installed / UNITS / unit).read_text()
        lines = [line for line in text.splitlines() if "pypoold" in line and not line.startswith(("#", "Doc", "ExecStopPost="))]
        assert [line for line in lines if "%i" not in line] == []


def test_the_sandbox_of_the_service_is_tight(installed: Path) -> None:
    """2.5 of 10: what is left open is what handlers need."""
    file = installed / UNITS / "pypoold.service"
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager"]
    assert subprocess.run([*command, str(file)], capture_output=True, check=False).returncode == 0
    file.write_text(file.read_text().replace("SystemCallFilter=@system-service\n", "").replace("PrivateDevices=yes", ""))
    assert subprocess.run([*command, str(file)], capture_output=True, check=False).returncode != 0


def test_uninstall_leaves_only_the_configuration(installed: Path) -> None:
    shutil.rmtree(installed / "usr/lib")
    command = ["make", "uninstall", f"DESTDIR={installed}", "PREFIX=/usr/local"]
    make(command)
    left = sorted(p.relative_to(installed).as_posix() for p in installed.rglob("*") if not p.is_dir())
    assert left == ["etc/pypoold/pypoold.conf"]
