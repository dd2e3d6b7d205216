"""Events: who is told of what, and what it costs when nobody reads."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, ReplyTimeout
from tests.support.daemon import DEMO, SANITIZED, Daemon, pool
from tests.support.scenes import workers
from tests.support.users import ALICE, BOB, CAROL, OPEN, client_of, needs_root

Start = Callable[..., Daemon]
Event = dict[str, Any]

KINDS = ["worker", "session", "lease", "breaker", "pool", "config"]
MIB = 1 << 20


def next_event(c: Client) -> Event:
    name, params = c.wait_notification()
    assert name == "event" and len(params) == 1
    event = params[0]
    assert {"kind", "what", "time_ms"} <= set(event)
    return dict(event)


def told(c: Client, kind: str, what: str, **more: Any) -> Event:
    """The next event, which must be this one."""
    event = next_event(c)
    assert {"kind": kind, "what": what, **more}.items() <= event.items(), event
    return event


def until(c: Client, kind: str, what: str) -> list[Event]:
    """All up to this one."""
    found = [next_event(c)]
    while (found[-1]["kind"], found[-1]["what"]) != (kind, what):
        found.append(next_event(c))
    return found


def test_events_of_calls_sessions_leases_and_workers_come_in_their_order(daemon: Daemon, client: Client) -> None:
    with daemon.client() as listener:
        answer = listener.call("subscribe")
        assert answer == {"kinds": KINDS, "pools": ["default"], "dropped": 0}
        client.execute("echo", 1)  # no event
        client.execute("collect", "book", session="cart")
        told(listener, "session", "opened", session="cart", pool="default", uid=os.getuid())
        lease = client.call("checkout", type="session", session="cart")
        told(listener, "lease", "begun", lease=lease["lease"], worker=lease["worker"], session="cart")
        client.call("checkin", lease=lease["lease"])
        told(listener, "lease", "ended", lease=lease["lease"], reason="it was checked in")
        os.kill(lease["pid"], signal.SIGKILL)
        dead = told(listener, "worker", "dead", worker=lease["worker"], pid=lease["pid"], reason="crashed")
        assert dead["from"] == "idle" and dead["template"] is False and "SIGKILL" in dead["exit"]
        told(listener, "session", "lost", session="cart")
        begun = told(listener, "worker", "starting", pool="default")
        assert "from" not in begun
        for state, before in (("initializing", "starting"), ("idle", "initializing")):
            told(listener, "worker", state, worker=begun["worker"], **{"from": before})
        assert client.call("session.open", session="cart")["opened"] is True
        told(listener, "session", "reopened", session="cart")
        client.call("session.close", session="cart")
        told(listener, "session", "closed", session="cart")


def test_what_operators_do_is_told(daemon: Daemon, client: Client) -> None:
    with daemon.client() as listener:
        assert listener.call("subscribe", kinds=["pool", "config"])["kinds"] == ["pool", "config"]
        client.call("pool.pause")
        told(listener, "pool", "paused", state="paused")
        client.call("pool.resume")
        told(listener, "pool", "resumed", state="serving")
        client.call("pool.resize", min_workers=1, max_workers=3)
        told(listener, "pool", "resized", min_workers=1, max_workers=3)
        client.call("pool.reload")
        told(listener, "config", "taken")
        told(listener, "pool", "reload_begun", dry_run=False, generation=1)
        done = told(listener, "pool", "reload_done", dry_run=False, generation=2)
        assert done["replaced"] == 2
        client.call("pool.reload", dry_run=True)
        told(listener, "pool", "reload_begun", dry_run=True)  # of the configuration nothing is told then
        told(listener, "pool", "reload_done", dry_run=True, replaced=0, generation=2)
        with daemon.config.open("a") as config:
            config.write("no such option = 1\n")
        assert client.fail("pool.reload").code == "init_failed"
        refused = told(listener, "config", "refused")
        assert "pypoold.conf" in refused["reason"] and "pool" not in refused


def test_a_pool_whose_code_breaks_tells_all_of_it(start_daemon: Start, place: Path) -> None:
    (place / "app.py").write_text("from pypool_worker import expose\n@expose\ndef f():\n    return 1\n")
    settings = pool("app", 1, breaker_failures=2, breaker_reset="60s")
    daemon = start_daemon({"default": {**settings, "path": [str(place)]}})
    with daemon.client() as c, daemon.client() as listener:
        listener.call("subscribe", kinds=["breaker", "pool"])
        (place / "app.py").write_text("import nothing_like_that\n")
        assert c.fail("pool.reload").code == "init_failed"
        told(listener, "pool", "reload_begun")
        assert "nothing_like_that" in told(listener, "pool", "reload_failed")["reason"]
        os.kill(workers(c, "idle")[0]["pid"], signal.SIGKILL)
        events = until(listener, "breaker", "open")
        assert ("pool", "init_failed") in [(e["kind"], e["what"]) for e in events]
        assert events[-1]["failures"] == 2 and "nothing_like_that" in events[-1]["reason"]


def test_the_life_of_a_template_is_told(start_daemon: Start) -> None:
    daemon = start_daemon({"default": {**DEMO, "start": "fork"}})
    with daemon.client() as c, daemon.client() as listener:
        listener.call("subscribe", kinds=["worker", "pool"])
        template = c.call("pools")[0]["template"]
        os.kill(template["pid"], signal.SIGKILL)
        events = until(listener, "pool", "template_warm")
        dead = next(e for e in events if e["what"] == "dead")
        assert dead["template"] is True and dead["worker"] == template["worker"]
        assert any(e["what"] == "template_lost" and "SIGKILL" in e["reason"] for e in events)
        assert all(e["template"] for e in events if e["kind"] == "worker")


def test_lines_of_output_are_told_only_when_they_are_asked_for(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c, daemon.client() as usual, daemon.client() as listener:
        usual.call("subscribe")
        listener.call("subscribe", kinds=["output"])
        assert c.execute("print_then", 1) == 1
        (first, second) = (next_event(listener), next_event(listener))
        assert {(e["source"], e["text"]) for e in (first, second)} == {
            ("stdout", "printed on stdout"), ("stderr", "printed on stderr")
        }
        assert {e["number"] for e in (first, second)} == {0, 1}
        held = c.call("logs")[-1]
        assert (held["text"], held["partial"]) == ("no newline", True)
        assert {line["partial"] for line in c.call("logs")[:-1]} == {False}
        listener.call("ping")
        assert not listener.notifications, "it has not ended"
        c.execute("write", "stdout", "mine\n")  # what is held back is the line of the call before
        late, mine = next_event(listener), next_event(listener)
        assert (late["text"], late["number"], late["call"]) == ("no newline", held["number"], first["call"])
        assert mine["text"] == "mine" and mine["call"] > first["call"] > 0
        usual.call("ping")
        assert not usual.notifications


def test_only_the_pools_that_were_named_are_told_of(start_daemon: Start) -> None:
    daemon = start_daemon({"a": DEMO, "b": DEMO})
    with daemon.client() as c, daemon.client() as listener:
        assert listener.call("subscribe", pools=["b", "b"])["pools"] == ["b"]
        for name in ("a", "b"):
            c.call("pool.pause", pool=name)
        told(listener, "pool", "paused", pool="b")
        assert listener.call("subscribe", pools=[])["pools"] == []
        c.call("pool.resume", pool="a")
        c.call("pool.reload", pool="a", wait=False)
        told(listener, "config", "taken")
        listener.call("ping")
        assert not listener.notifications, "nothing of any pool"


def test_another_subscribe_takes_the_place_of_the_first_and_none_ends_it(daemon: Daemon, client: Client) -> None:
    with daemon.client() as listener:
        listener.call("subscribe", kinds=["pool"])
        listener.call("subscribe", kinds=["lease"])
        client.call("pool.pause")
        client.call("pool.resume")
        lease = client.call("checkout", type="anonymous")
        told(listener, "lease", "begun")
        assert [c["subscribed"] for c in client.call("clients")] == [False, True]
        assert listener.call("subscribe", kinds=[]) == {"kinds": [], "pools": [], "dropped": 0}
        client.call("checkin", lease=lease["lease"])
        listener.call("ping")
        assert not listener.notifications
        assert [c["subscribed"] for c in client.call("clients")] == [False, False]


@pytest.mark.parametrize("framing", ["prefixed", "bare"])
def test_without_hello_there_is_nothing_to_subscribe_to(daemon: Daemon, framing: Any) -> None:
    with daemon.client(framing=framing, hello=False) as c:
        error = c.fail("subscribe")
        assert error.code == "bad_request" and "hello" in error.message
        c.call("hello", protocol=1)
        assert c.call("subscribe")["pools"] == ["default"]
        c.call("pool.pause")
        told(c, "pool", "paused")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"kinds": ["workers"]}, "bad_request", 'no kind of event "workers"; there are: worker session lease'),
    ({"kinds": ["worker", 5]}, "bad_request", "kinds must be names of kinds of events, got int; there are: worker"),
    ({"kinds": [["worker"]]}, "bad_request", "got array"),
    ({"kinds": [b"\xff\x1b[0m"]}, "bad_request", r'"\xff\x1b[0m"'),
    ({"kinds": ["worker" * 5000]}, "bad_request", "no kind of event"),
    ({"kinds": "worker"}, "bad_request", 'kinds must be an array, got str "worker"'),
    ({"kinds": {"worker": True}}, "bad_request", "kinds must be an array, got map"),
    ({"pools": ["none"]}, "unknown_pool", 'no pool "none"; there are: default'),
    ({"pools": ["default", None]}, "bad_request", "pools must be names of pools, got nil"),
    ({"pools": "default"}, "bad_request", "pools must be an array"),
    ({"pools": [""]}, "unknown_pool", 'no pool ""'),
    ({"pool": "default"}, "bad_request", "kinds pools"),
]


def test_what_cannot_be_subscribed_to_is_refused_and_changes_nothing(daemon: Daemon, client: Client) -> None:
    with daemon.client() as listener:
        listener.call("subscribe", kinds=["pool"])
        for params, code, message in REFUSED:
            error = listener.fail("subscribe", **params)
            assert (error.code, error.executed) == (code, "never"), params
            assert message in error.message, error.message
        many = listener.call("subscribe", kinds=["pool"] * 100000, pools=["default"] * 100000)
        assert (many["kinds"], many["pools"]) == (["pool"], ["default"])
        client.call("pool.pause")
        told(listener, "pool", "paused")


@needs_root
def test_nobody_is_told_of_what_he_may_not_observe(start_daemon: Start) -> None:
    daemon = start_daemon(
        {"a": DEMO, "b": DEMO},
        access={
            "all": {"uid": [str(ALICE)], "role": "observe"},
            "some": {"uid": [str(BOB)], "role": "observe", "pools": ["b"]},
            "rest": {"uid": [str(BOB), str(CAROL)], "role": "use"},
        },
        **OPEN,
    )
    with daemon.client() as root, client_of(daemon, ALICE) as alice, client_of(daemon, BOB) as bob, \
            client_of(daemon, CAROL) as carol:
        assert carol.fail("subscribe").code == "denied"
        assert alice.call("subscribe") == {"kinds": KINDS, "pools": ["a", "b"], "dropped": 0}
        assert bob.call("subscribe") == {"kinds": KINDS[:-1], "pools": ["b"], "dropped": 0}
        for params in ({"kinds": ["config"]}, {"pools": ["a"]}, {"pools": ["b", "a"]}):
            error = bob.fail("subscribe", **params)
            assert error.code == "denied", params
            assert "config need the role observe on the daemon" in error.message or "on pool a" in error.message
        for name in ("a", "b"):
            root.call("pool.pause", pool=name)
        for name in ("a", "b"):
            root.call("pool.reload", pool=name, wait=False)
        for c, names in ((alice, ["a", "b"]), (bob, ["b"])):
            for name in names:
                told(c, "pool", "paused", pool=name)
        told(alice, "config", "taken")
        told(bob, "pool", "reload_begun", pool="b")


@needs_root
def test_a_user_has_so_many_subscriptions_and_no_more(start_daemon: Start) -> None:
    daemon = start_daemon({"default": DEMO}, **OPEN)
    mine = [client_of(daemon, ALICE) for _ in range(33)]
    for c in mine[:-1]:
        c.call("subscribe")
    error = mine[-1].fail("subscribe")
    assert (error.code, error.executed) == ("quota", "never") and "32 subscriptions" in error.message
    mine[0].call("subscribe", kinds=["pool"])  # its own gives way
    with client_of(daemon, BOB) as bob:
        assert bob.call("subscribe")["dropped"] == 0
    mine[0].call("subscribe", kinds=[])
    assert mine[-1].call("subscribe")["dropped"] == 0
    for c in mine:
        c.close()


def rss(pid: int) -> int:
    """Bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def lines_told(c: Client, last: str) -> tuple[list[int], int]:
    """The numbers of the lines up to this one, and how many were dropped before any of them."""
    numbers, dropped = [], 0
    while True:
        event = next_event(c)
        numbers.append(event["number"])
        dropped += event.get("dropped", 0)
        if event["text"] == last:
            return numbers, dropped


def test_who_does_not_read_loses_events_and_is_told_how_many(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    rounds, size = 10, 20000
    with daemon.client() as c, daemon.client() as slow:
        c.execute("number_lines", size)  # the daemon has its buffers
        before = rss(daemon.pid)
        slow.call("subscribe", kinds=["output"])
        for _ in range(rounds):
            c.execute("number_lines", size)
        if not SANITIZED:
            assert rss(daemon.pid) - before < 4 * MIB
        (held,) = (one for one in c.call("clients") if one["subscribed"])
        assert held["bytes_out"] < 8 * MIB, "most of it was never sent"
        numbers, dropped = [], 0
        with pytest.raises(ReplyTimeout):  # what waits for it
            while True:
                event = slow.wait_notification(0.5)[1][0]
                numbers.append(event["number"])
                dropped += event.get("dropped", 0)
        assert numbers
        c.execute("write", "stdout", "the last\n")
        more, lost = lines_told(slow, "the last")
        numbers += more
        dropped += lost
        assert dropped > 0 and len(numbers) + dropped == rounds * size + 1
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == (rounds + 1) * size  # one round was before it listened
        c.execute("write", "stdout", "one more\n")
        assert "dropped" not in next_event(slow), "that was told"


def test_what_was_lost_is_told_by_the_next_subscribe_too(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, max_frame="64K")  # half of which may wait
    with daemon.client() as c, daemon.client() as slow:
        slow.call("subscribe", kinds=["output"])
        for _ in range(5):
            c.execute("number_lines", 20000)
        number = slow.start("subscribe", kinds=["pool"])
        answer = slow.wait(number).value()
        seen = [params[0] for _, params in slow.notifications]
        dropped = sum(event.get("dropped", 0) for event in seen) + answer["dropped"]
        assert answer["dropped"] > 0 and len(seen) + dropped == 100000
        assert slow.call("subscribe", kinds=[])["dropped"] == 0


def test_a_subscription_ends_with_its_connection(daemon: Daemon, client: Client) -> None:
    half = daemon.client()
    half.call("subscribe")
    half.shutdown_write()
    half.wait_closed()
    half.close()
    gone = daemon.client()
    gone.call("subscribe")
    gone.close()
    client.call("pool.pause")
    client.call("pool.resume")
    with daemon.client() as listener:
        listener.call("subscribe", kinds=["pool"])
        client.call("pool.pause")
        told(listener, "pool", "paused")
        client.call("pool.resume")
        told(listener, "pool", "resumed")


def test_the_end_of_the_daemon_is_told_to_the_last(daemon: Daemon) -> None:
    with daemon.client() as listener:
        listener.call("subscribe", kinds=["pool", "worker"])
        os.kill(daemon.pid, signal.SIGTERM)
        told(listener, "pool", "draining", state="draining")
        events = until(listener, "pool", "stopped")
        assert [e["what"] for e in events if e["kind"] == "worker"].count("dead") == 2
        listener.wait_closed()
    daemon.process.wait(10)
