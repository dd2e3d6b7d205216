"""The checker of the chaos run finds what it is there to find: small histories, each with one thing wrong."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from tests.chaos import checker
from tests.chaos.history import Call, Event, History, Lease, Outage
from tests.chaos.link import Link


def call(code: str = "ok", executed: str = "yes", *, took: float = 0.1, timeout: float = 5.0, lease: int = 0) -> Call:
    made = Call("a", "stub", "echo", 0, timeout, lease)
    made.code, made.executed, made.worker = code, executed, 1
    made.sent, made.done = 100.0, 100.0 + took if code else 0.0
    return made


def events(text: str, worker: str = "1") -> list[Event]:
    """Words such as Sa: the letter, then the tag; one tenth of a second apart."""
    return [Event(word[0], worker, 7, word[1:], 100 + i / 10) for i, word in enumerate(text.split())]


def complaints(one: Call, text: str) -> list[str]:
    history = History()
    history.calls.append(one)
    return list(checker.check_calls(history, events(text)))


@pytest.mark.parametrize(
    "one, text",
    [
        (call(), "R- Sa Ea"),
        (call("worker_died", "maybe"), "R- Sa"),
        (call("worker_died", "maybe"), "R-"),
        (call("cancelled", "never"), "R-"),
        (call("app_error", "yes"), "R- Sa Ea"),
    ],
)
def test_a_history_in_order_is_accepted(one: Call, text: str) -> None:
    one.what = "fail" if one.code == "app_error" else "echo"
    assert not complaints(one, text)


@pytest.mark.parametrize(
    "invariant, one, text",
    [
        (1, call(""), "R-"),
        (1, call("internal", "maybe"), "R-"),
        (1, call("quota", "never"), "R-"),
        (2, call("app_error", "yes"), "R- Sa Ea"),
        (4, call("cancelled", "never"), "R- Sa"),
        (4, call("worker_died", "maybe"), "R- Sa Sa"),
        (4, call(), "R- Sa Ea Sb Eb"),
        (5, call(), "R-"),
        (5, call(), "R- Sa"),
        (5, call("cancelled", "yes"), "R-"),
    ],
)
def test_a_call_that_was_lost_doubled_or_lied_about_is_found(invariant: int, one: Call, text: str) -> None:
    found = complaints(one, text)
    assert [line for line in found if line.startswith(f"invariant {invariant}:")], found


def test_a_success_on_another_worker_than_told_is_found() -> None:
    one = call()
    one.worker = 2
    assert "invariant 5" in complaints(one, "R- Sa Ea")[0]


@pytest.mark.parametrize("invariant, text", [(3, "R- Sa Sb"), (11, "R- F-"), (14, "Sa R-"), (14, "B- R-")])
def test_a_worker_that_got_what_it_should_not_is_found(invariant: int, text: str) -> None:
    assert f"invariant {invariant}:" in " ".join(checker.check_workers(events(text)))
    assert not list(checker.check_workers(events("R- Sa Ea Sb Ib Sc")))


@pytest.mark.parametrize("tag, worker, is_fine", [("a", "1", True), ("b", "1", False), ("a", "2", False), ("b", "2", True)])
def test_a_call_that_breaks_into_a_lease_is_found(tag: str, worker: str, is_fine: bool) -> None:
    history = History()
    history.calls = [call(lease=9)]
    history.leases = [Lease(9, 1, 500, "c1", 99.0, 101.0)]
    assert (not list(checker.check_leases(history, events(f"S{tag}", worker)))) == is_fine


def test_two_holders_of_one_worker_are_found() -> None:
    history = History()
    history.leases = [Lease(9, 1, 500, "c1", 99.0, 101.0), Lease(10, 1, 500, "c2", 100.5, 102.0)]
    assert "two holders" in " ".join(checker.check_leases(history, []))


@pytest.mark.parametrize(
    "code, took, word", [("deadline_exceeded", 4.9, "early"), ("ok", 6.6, "late"), ("deadline_exceeded", 5.05, "")]
)
def test_a_timeout_at_the_wrong_time_is_found(code: str, took: float, word: str) -> None:
    history = History()
    history.calls = [call(code, "maybe", took=took)]
    found = " ".join(checker.check_times(history, 1.0))
    assert word in found and bool(found) == bool(word)


def test_counters_that_do_not_add_up_are_found() -> None:
    history = History()
    history.calls = [call(), call("worker_died", "maybe")]
    fine = {"accepted": 2, "completed": 1, "failed": 1, "cancelled": 0, "abandoned": 0, "queued": 0, "running": 0, "leases": 0}
    assert not list(checker.check_counters(history, fine))
    for change in ({"accepted": 3}, {"running": 1}, {"completed": 2, "accepted": 3}):
        assert list(checker.check_counters(history, {**fine, **change})), change


def test_too_few_workers_and_too_many_spawns_are_found() -> None:
    fine = {"min_workers": 2, "idle": 2, "spawned": 5, "died": 3}
    assert not list(checker.check_spawns(fine, 2))
    assert list(checker.check_spawns({**fine, "idle": 1}, 2)) and list(checker.check_spawns({**fine, "spawned": 6}, 2))


def test_a_reply_to_nobody_a_second_one_and_a_wrong_value_are_found() -> None:
    async def talk() -> list[str]:
        history = History()
        link = Link(history, "c1", "bare")
        one = Call("mine", "stub", "echo", 0, 5.0, 0)
        link.prepare(one, {})
        reply = msgpack.packb([1, 1, None, {"value": "somebody else's", "meta": {"worker": 1}}])
        link.data_received(reply + reply + msgpack.packb([2, "event", []]))
        return history.trouble

    trouble = asyncio.run(talk())
    assert len(trouble) == 3, trouble
    assert "invariant 2" in trouble[0] and "invariant 1" in trouble[1] and "invariant 1" in trouble[2]


def test_a_call_that_kills_too_often_is_found() -> None:
    assert not list(checker.check_poison(events("Spoison-1 Spoison-1 Sa Sa Sa Sa"), 2))
    assert "invariant 15" in next(checker.check_poison(events("Spoison-1 Spoison-1 Spoison-1"), 2))


def test_more_starts_than_the_back_off_allows_are_found() -> None:
    outage = Outage(100.0, 101.0)
    fine = [Event("D", "1", 7, "-", at) for at in (99.9, 100.01, 100.02, 100.1, 100.3, 100.6)]
    assert not list(checker.check_outages([outage], fine, 4, 1))
    storm = [Event("D", "1", 7, "-", 100.0 + i / 100) for i in range(40)]
    assert "40 starts" in next(checker.check_outages([outage], storm, 4, 1))


def test_a_breaker_that_did_not_open_is_found() -> None:
    outages = [Outage(100.0, 101.0), Outage(200.0, 201.0)]
    fails = [Event("D", "1", 7, "-", at) for at in (100.1, 100.2, 100.4, 200.1, 200.11, 200.2)]
    assert not list(checker.check_outages(outages, fails, 4, 1)), "in the second they died together, but for one"
    assert "opened 0 times in 1 outages" in next(checker.check_outages(outages, fails, 4, 0))


def test_a_worker_that_goes_on_for_ever_is_found() -> None:
    assert not list(checker.check_recycling([1] * 15 + [2] * 11 + [1], 11, 5))
    assert "worker 1 has answered 17 calls" in next(checker.check_recycling([1] * 15 + [2] * 11 + [1] * 2, 11, 5))
