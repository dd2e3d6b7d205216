"""The tables of pypoolctl, as a person or a script sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon, pool


@pytest.mark.parametrize(
    "command,titles", [("workers", "WORKER POOL PID STATE"), ("queue", "CALL POOL CLIENT TARGET STATE WAITED LEFT WORKER")]
)
def test_a_table_without_rows_has_its_header(start_daemon: Callable[..., Daemon], command: str, titles: str) -> None:
    # minimum 0: no workers yet, and nothing waits
    daemon = start_daemon({"default": {**pool("nasty", 0), "max_workers": 1}})
    shown = daemon.ctl(command)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert len(lines) == 1 and lines[0].startswith(titles), shown.stdout
    as_json = daemon.ctl(command, "--json")
    assert (as_json.returncode, as_json.stdout) == (0, "[]\n")
