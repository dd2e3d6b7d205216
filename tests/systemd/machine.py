"""The machine that tests/systemd/box boots, from within: units, what they run, and the journal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.daemon import SLOW

CGROUPS = Path("/sys/fs/cgroup")
GROUPS = CGROUPS / ("system.slice" if (CGROUPS / "cgroup.controllers").exists() else "unified/system.slice")
PATIENCE = 60.0 * SLOW


class Done(NamedTuple):
    status: int
    text: str  # what it printed, on both outputs


def run(*command: str) -> Done:
    """A command that ends."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False
    )
    return Done(done.returncode, done.stdout)


def must(*command: str) -> str:
    """A command that succeeds: what it printed."""
    done = run(*command)
    assert done.status == 0, f"{' '.join(command)}: exit status {done.status}\n{done.text}"
    return done.text


def member_pids(unit: str) -> list[int]:
    """All processes in the unit's cgroup."""
    group = GROUPS / unit
    if "@" in unit:
        group = GROUPS / f"system-{unit.partition('@')[0]}.slice" / unit
    try:
        found = [file.read_text() for file in group.rglob("cgroup.procs")]
    except (FileNotFoundError, OSError):  # it goes away while we look
        return []
    return [int(pid) for text in found for pid in text.split()]


class Journal:
    """What is in the journal from the construction of this object on."""

    def __init__(self) -> None:
        must("journalctl", "--sync")  # what was said before is before it
        text = must("journalctl", "--lines=1", "--show-cursor", "--quiet")
        self._cursor = text.rpartition("-- cursor: ")[2].strip()

    def records(self, *matches: str) -> list[dict[str, str]]:
        """Those with these fields, such as "PYPOOL_EVENT=daemon.ready"."""
        must("journalctl", "--sync")
        # journalctl's own matches and --after-cursor together pass over the first that matches
        text = must("journalctl", "--output=json", "--all", f"--after-cursor={self._cursor}")
        records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        wanted = [match.split("=", 1) for match in matches]
        return [record for record in records if all(record.get(name) == value for name, value in wanted)]

    def messages(self, *matches: str) -> str:
        return "\n".join(str(record.get("MESSAGE", "")) for record in self.records(*matches))

    def end(self) -> str:
        """For people."""
        return must("journalctl", "--output=short-precise", f"--after-cursor={self._cursor}")
