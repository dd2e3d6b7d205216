"""The tables of pypoolctl, as a person or a script sees them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from tests.support.daemon import DEMO, Daemon, pool
from tests.support.direct import Direct


@pytest.mark.parametrize(
    "command,titles",
    [
        ("sessions", "SESSION POOL UID STATE WORKER WAITING LEASED KEYS BYTES IDLE LEFT"),
        ("leases", "LEASE POOL WORKER PID CLIENT UID SESSION DIRECT WAITING AGE LEFT"),
        ("workers", "WORKER POOL PID STATE"),
        ("queue", "CALL POOL CLIENT TARGET STATE WAITED LEFT WORKER"),
    ],
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


def row_of(text: str) -> list[str]:
    """The only row of a table."""
    header, row = text.splitlines()
    return row.split()


def test_sessions_and_leases_are_shown_with_who_has_them(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    called = daemon.ctl("call", "collect", '"book"', "--session", "cart")
    assert (called.returncode, called.stdout) == (0, '["book"]\n')
    again = daemon.ctl("call", "--session=cart", "collect", '"pen"')
    assert json.loads(again.stdout) == ["book", "pen"]
    session, where, uid, state, _, waiting, leased, keys, size, *_ = row_of(daemon.ctl("sessions").stdout)
    assert (session, where, uid, state) == ("cart", "default", str(os.getuid()), "open")
    assert (waiting, leased, keys, size) == ("0", "false", "1", "16")
    with daemon.client() as client:
        client.call("checkout", type="session", session="cart")
        assert row_of(daemon.ctl("leases", "--pool", "default").stdout)[6:9] == ["cart", "false", "0"]
        (told,) = json.loads(daemon.ctl("sessions", "--json").stdout)
        assert (told["session"], told["leased"], told["affinity"]) == ("cart", True, "strict")
    with daemon.client() as client, Direct(client):
        (told,) = json.loads(daemon.ctl("--json", "leases").stdout)
        assert (told["session"], told["direct"]) == (None, True)
    refused = daemon.ctl("sessions", "--pool", "none")
    assert refused.returncode == 1 and "unknown_pool" in refused.stderr


def test_a_call_of_a_session_that_is_busy_says_so(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    with daemon.client() as client:
        client.call("checkout", type="session", session="cart")
        called = daemon.ctl("call", "collect", "1", "--session", "cart")
        assert called.returncode == 1 and 'session "cart" is leased' in called.stderr
    assert daemon.ctl("call", "collect", "--session").returncode == 2


def test_workers_show_what_they_weigh(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": {**DEMO, "min_workers": 1, "max_workers": 1}})
    (shown,) = json.loads(daemon.ctl("workers", "--json").stdout)
    with open(f"/proc/{shown['pid']}/smaps_rollup") as rollup:
        pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert 0.5 * pss < shown["pss_kib"] < 2 * pss
    titles, row = daemon.ctl("workers").stdout.splitlines()
    assert titles.split()[10:12] == ["MAX-RSS", "PSS"] and "M" in row.split()[11]
    with daemon.client() as c:
        os.kill(shown["pid"], 9)
        assert c.execute("echo", 1) == 1
    assert [w["pss_kib"] for w in json.loads(daemon.ctl("workers", "--json").stdout) if w["state"] == "dead"] == [None]


def test_workers_that_were_replaced_have_not_died(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})

    def died() -> list[str]:
        header, row = (line.split() for line in daemon.ctl("pools").stdout.splitlines())
        once = daemon.ctl("top", "--once", "-d", "0.1").stdout.splitlines()
        at = next(i for i, line in enumerate(once) if line.startswith("POOL"))
        return [row[header.index("DIED")], once[at + 1].split()[once[at].split().index("DIED")]]

    assert daemon.ctl("recycle", "--wait").returncode == 0
    assert died() == ["0", "0"]
    assert daemon.ctl("call", "os_exit", "3").returncode == 1
    assert died() == ["1", "1"]
