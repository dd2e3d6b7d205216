"""Roles: what each may do, on which pool, and who has them."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Framing, pack
from tests.support.daemon import ROOT, SANITIZED, Daemon, pool
from tests.support.measured import MEASURED
from tests.support.scenes import lines, wait_running
from tests.support.users import ALICE, BOB, CAROL, DAVE, OPEN, client_of, needs_root, reachable
from tests.support.waiting import eventually

pytestmark = needs_root

Start = Callable[..., Daemon]

ROLES = ["none", "use", "observe", "admin"]
GROUP = 64100


def block(role: str, *uids: int, **more: Any) -> dict[str, Any]:
    return {"uid": [str(uid) for uid in uids], "role": role, **more}


def methods() -> dict[str, str]:
    """Each method's role, as the table of docs/protocol.md has it."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    table = text[text.index("| method | role |") :].partition("\n\n")[0]
    found = dict(re.findall(r"^\| `([a-z._]+)` \| (none|use|observe|admin) \|", table, re.MULTILINE))
    assert {"hello", "ping", "execute", "status", "worker.stack"} <= set(found)
    return found


def test_fault_111_every_method_with_every_role_is_allowed_as_the_table_says(start_daemon: Start) -> None:
    users = dict(zip(ROLES, (ALICE, BOB, CAROL, DAVE)))
    daemon = start_daemon(
        {"default": pool("nasty", 1)}, access={role: block(role, uid) for role, uid in users.items()}, **OPEN
    )
    for role, uid in users.items():
        with client_of(daemon, uid) as c:
            assert c.hello["role"] == role
            for method, needed in methods().items():
                error = c.fail(method, **{"no such key": 1})  # nothing happens where it is allowed
                allowed = ROLES.index(role) >= ROLES.index(needed)
                assert (error.code, error.executed) == ("bad_request" if allowed else "denied", "never"), (role, method)
                if not allowed:
                    assert error.message == f"{method} needs the role {needed}, uid {uid} has {role}"


def two_pools(start_daemon: Start) -> Daemon:
    """Bob uses pool a; Carol uses a and observes b; Dave administers b; Alice is in no block."""
    return start_daemon(
        {"a": pool("nasty", 1), "b": pool("nasty", 1)},
        access={
            "observers": block("observe", CAROL, pools=["b"]),
            "admins": block("admin", DAVE, pools=["b"]),
            "users": block("use", BOB, CAROL, pools=["a"]),
        },
        **OPEN,
    )


def test_a_pool_on_which_a_peer_has_no_role_is_not_there_for_it(start_daemon: Start) -> None:
    daemon = two_pools(start_daemon)
    with client_of(daemon, BOB) as bob:
        assert (bob.hello["role"], bob.hello["pools"]) == ("use", ["a"])
        assert bob.execute("echo", 1) == 1, "the only one that he knows needs no name"
        real, none = (bob.fail_execute("echo", 1, pool=name) for name in ("b", "c"))
        assert (real.code, real.executed) == (none.code, none.executed) == ("unknown_pool", "never")
        assert real.message.replace('"b"', '"c"') == none.message and "there are: a" in none.message
        assert bob.fail("checkout", type="anonymous", pool="b").code == "unknown_pool"
        lease = bob.call("checkout", type="anonymous")
        assert bob.execute("echo", 2, lease=lease["lease"]) == 2
        assert bob.call("checkin", lease=lease["lease"]) is True


def test_each_pool_shows_itself_to_those_who_may_observe_it(start_daemon: Start) -> None:
    daemon = two_pools(start_daemon)
    with daemon.client() as root, client_of(daemon, CAROL) as carol, client_of(daemon, DAVE) as dave:
        workers = {w["pool"]: w["worker"] for w in root.call("workers")}
        assert (carol.hello["role"], carol.hello["pools"]) == ("observe", ["a", "b"])
        assert [p["name"] for p in carol.call("pools")] == ["b"]
        assert [w["pool"] for w in carol.call("workers")] == ["b"]
        error = carol.fail("workers", pool="a")
        assert error.code == "denied" and "observe on pool a" in error.message
        assert carol.call("why", worker=workers["b"])["state"] == "idle"
        assert carol.call("why", worker=workers["a"])["state"] == "forgotten"
        assert carol.fail("why", pool="a").code == "denied"
        assert carol.execute("echo", 1, pool="a") == carol.execute("echo", 1, pool="b") == 1
        number = root.start_execute("sleep", 60, pool="a")
        (call,) = [r["call"] for r in wait_running(root, "sleep", 1)]
        assert carol.call("queue") == [] and carol.call("why", call=call)["state"] == "finished"
        root.call("cancel", id=number)
        assert root.wait_error(number).code == "cancelled"
        # what concerns no pool needs a role everywhere
        for c in (carol, dave):
            assert {c.fail(method).code for method in ("status", "clients")} == {"denied"}
        error = carol.fail("worker.stack", worker=workers["b"])
        assert error.code == "denied"
        assert dave.call("worker.stack", worker=workers["b"])["worker"] == workers["b"]
        error = dave.fail("worker.stack", worker=workers["a"])
        assert error.code == "bad_request", "there is none for him"


def test_only_an_admin_of_its_pool_cancels_another_users_call(start_daemon: Start) -> None:
    daemon = two_pools(start_daemon)
    with daemon.client() as root, client_of(daemon, CAROL) as carol, client_of(daemon, DAVE) as dave:
        for name, cancelled in (("a", False), ("b", True)):
            number = carol.start_execute("sleep", 60 if cancelled else 0.5, pool=name)
            (call,) = [r["call"] for r in wait_running(root, "sleep", 1)]
            assert dave.call("cancel", call=call) is cancelled
            if cancelled:
                assert carol.wait_error(number).code == "cancelled"
            else:
                assert carol.wait(number).value() == 0.5


def test_who_is_in_no_block_is_denied_all_but_hello_and_ping(start_daemon: Start) -> None:
    daemon = two_pools(start_daemon)
    with client_of(daemon, ALICE) as alice:
        assert (alice.hello["role"], alice.hello["pools"]) == ("none", [])
        assert alice.call("ping") == "pong"
        error = alice.fail_execute("echo", 1)
        assert (error.code, error.executed) == ("denied", "never")
        assert alice.call("ping") == "pong", "the connection lives"


def test_a_group_counts_also_when_it_is_not_the_first(start_daemon: Start) -> None:
    daemon = start_daemon(
        {"default": pool("nasty", 1)}, access={"staff": {"gid": [str(GROUP)], "role": "use"}}, **OPEN
    )
    others = list(range(GROUP + 1, GROUP + 150))
    cases: list[tuple[int, list[int], str]] = [
        (GROUP, [], "use"),
        (1, [GROUP], "use"),
        (1, [*others, GROUP], "use"),
        (1, others, "none"),
    ]
    for gid, groups, role in cases:
        with client_of(daemon, ALICE, gid=gid, groups=groups) as c:
            assert c.hello["role"] == role, (gid, groups)


def test_without_blocks_everybody_observes(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, **OPEN)
    with client_of(daemon, ALICE) as alice, daemon.client() as root:
        assert (alice.hello["role"], root.hello["role"]) == ("observe", "admin")
        assert alice.execute("echo", 1) == 1 and alice.call("status")["clients"] == 2


def ask_role(daemon: Daemon) -> list[str]:
    """A command that prints the role that it has."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support.client import Client; "
        f"print(Client({str(daemon.socket)!r}).hello['role'])"
    )
    return [sys.executable, "-c", code]


def test_fault_117_neither_a_worker_nor_what_it_starts_administers(start_daemon: Start, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    said = tmp_path / "said"
    said.touch()
    with daemon.client() as c:
        assert c.hello["role"] == "admin", "we run as the same user, but nobody has started us"
        assert c.execute("run_command", *ask_role(daemon)) == [0, "observe\n"]
        detached = 'said=$1; shift; (setsid "$@" >"$said" 2>&1 </dev/null &)'  # its parent is gone: an orphan
        assert c.execute("run_command", "sh", "-c", detached, "sh", str(said), *ask_role(daemon)) == [0, ""]
        eventually(lambda: lines(said) == ["observe"], "an orphan is none either")


@pytest.mark.parametrize("start", ["exec", "fork"])
def test_fault_117_a_worker_of_another_user_can_neither_trace_nor_signal_the_daemon(start_daemon: Start, start: str) -> None:
    there = reachable()
    settings = pool("works", 1, user="nobody", path=[str(there.apps)], start=start)
    daemon = start_daemon({"default": settings}, program=there.build / "pypoold", **OPEN)
    with daemon.client() as c:
        assert c.execute("uid") != 0
        assert c.execute("peek", daemon.pid) == {"memory": "Permission denied", "files": "Permission denied",
                                                 "environment": "Permission denied", "trace": "Operation not permitted"}
        assert c.execute("poke", daemon.pid) == "Operation not permitted"


# ---- what it costs to say no


def anonymous(daemon: Daemon) -> int:
    """Bytes of its own memory."""
    text = Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    match = re.search(r"^Anonymous:\s+(\d+) kB$", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def knock(c: Client) -> None:
    error = c.fail_execute("echo", "x" * 1000)
    assert (error.code, error.executed) == ("denied", "never")
    assert c.call("ping") == "pong"


@pytest.mark.skipif(SANITIZED, reason="its memory is not the daemon's own")
@pytest.mark.parametrize("framing", ["prefixed", "bare"])
def test_fault_112_a_denied_peer_costs_1_kib(start_daemon: Start, framing: Framing) -> None:
    daemon = start_daemon(
        {"default": pool("nasty", 1)}, access={"nobody": block("none", BOB)}, log_level="warning", **OPEN
    )
    number = 700
    with ExitStack() as stack:
        for _ in range(100):  # what the first ones make it take is not theirs alone
            knock(stack.enter_context(client_of(daemon, ALICE, framing=framing)))
        before = anonymous(daemon)
        for _ in range(number):
            knock(stack.enter_context(client_of(daemon, ALICE, framing=framing)))
        cost = (anonymous(daemon) - before) / number
        MEASURED.append(f"a denied peer, {framing}: {cost:.0f} bytes of {number}")
        assert cost <= 1024


def test_fault_112_nothing_is_kept_for_a_denied_peer(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, access={"nobody": block("none", BOB)}, **OPEN)
    with client_of(daemon, ALICE) as large, client_of(daemon, ALICE) as slow, client_of(daemon, ALICE) as deaf:
        large.send_bytes(struct.pack(">I", 5000))
        assert large.wait_error(None).code == "denied"
        large.wait_closed()
        slow.send_bytes(struct.pack(">I", 100))
        slow.wait_closed()
        with pytest.raises(OSError):  # a peer that asks and does not read
            for _ in range(100_000):
                deaf.send_bytes(deaf.frame(pack([0, 1, "ping", []])) * 100)
    daemon.wait_log(r"client\.dropped .*does not read")


# ---- places for admins


def connections(c: Client) -> int:
    return int(c.call("status")["clients"])


def flood(stack: ExitStack, daemon: Daemon, uid: int) -> list[Client]:
    """Connections of a user, as many as the daemon takes: the next one is turned away."""
    taken: list[Client] = []
    while True:
        c = stack.enter_context(client_of(daemon, uid, framing="bare", hello=False))
        try:
            c.start("ping")
        except BrokenPipeError:
            return taken  # closed already
        if c.wait_any().result != "pong":
            return taken
        taken.append(c)


def test_fault_21_admins_get_in_during_a_flood_of_idle_connections(start_daemon: Start) -> None:
    daemon = start_daemon(
        {"default": pool("nasty", 1)},
        access={"boss": block("admin", BOB), "all": {"uid": ["*"], "role": "use"}},
        max_clients=20,
        uid_max_connections=15,
        **OPEN,
    )
    with ExitStack() as late:
        with ExitStack() as stack:
            assert len(flood(stack, daemon, ALICE)) == 15
            assert len(flood(stack, daemon, CAROL)) == 5
            assert daemon.ctl("status").returncode == 0, "root"
            boss = late.enter_context(client_of(daemon, BOB))
            eventually(lambda: connections(boss) == 21, "ctl has gone")
            assert len(flood(stack, daemon, BOB)) == 7, "and no more than are reserved"
        eventually(lambda: connections(boss) == 1, "all have gone")


def test_fault_21_an_admin_has_places_of_its_own_above_its_limit(start_daemon: Start) -> None:
    daemon = start_daemon(
        {"default": pool("nasty", 1)}, access={"boss": block("admin", BOB)}, uid_max_connections=3, **OPEN
    )
    with ExitStack() as stack:
        assert len(flood(stack, daemon, ALICE)) == 3
        assert len(flood(stack, daemon, BOB)) == 11
