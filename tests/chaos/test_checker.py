"""The checker of the chaos run finds what it is there to find: small histories, each with one thing wrong."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgpack
import pytest

from tests.chaos import checker
from tests.chaos.history import Call, Closed, Edit, Event, History, Lease, Opened, Outage, Seen, Story
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


def test_a_holder_that_heard_of_its_lease_when_it_was_over_is_none() -> None:
    history = History()
    history.leases = [Lease(9, 1, 500, "c1", 99.0, 101.0), Lease(10, 1, 500, "c2", 100.5, 98.9)]
    assert not list(checker.check_leases(history, []))


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


ENDS = {"F": "worker_died", "L": "session_lost", "C": ""}  # of calls; anything else is the count in their answer


def call_in_session(tag: str, end: str, begun: int) -> Call:
    made = call(ENDS.get(end, "ok"))
    made.tag, made.session, made.closed = tag, "s", end == "C"
    made.count, made.begun = (0 if end in ENDS else int(end)), begun
    return made


def told(words: str, pool: str = "stub") -> list[str]:
    """What is wrong with a session. A word is a step: "1@2" a call with its end and its worker (none: it never began),
    "put 7" a put, "open", "reopen" (it was lost), "close", "see 1,1"; "hooks": they ran."""
    history, noted, begun = History(), [], Counter[str]()
    story = Story("s", pool)
    history.stories.append(story)
    for i, word in enumerate(words.split(";")):
        what, _, number = word.strip().partition(" ")
        if what == "put":
            edit = Edit(int(number))
            edit.code = "ok"
            story.steps.append(edit)
        elif what in ("open", "reopen"):
            story.steps.append(Opened(what == "reopen"))
        elif what == "close":
            story.steps.append(Closed(True))
        elif what == "see":
            story.steps.append(Seen(*map(int, number.split(","))))
        elif what == "hooks":
            noted.append(Event("X", "1", 1, "s", 100 + i))
        else:
            end, _, worker = what.partition("@")
            begun[worker] += 1
            if worker:
                noted.append(Event("S", worker, 1, f"t{i}", 100 + i))
            if worker and end not in "FL":
                noted.append(Event("I" if end == "C" else "E", worker, 1, f"t{i}", 100.5 + i))
            story.steps.append(call_in_session(f"t{i}", end, begun[worker]))
    return list(checker.check_stories(history, noted))


@pytest.mark.parametrize(
    "words",
    [
        "1@1; 2@1; F@1; L@; reopen; 3@2; see 3,3",
        "1@1; put 1000; 1001@1; see 1001,1001; close; see 0,0; 1@2; close",
        "1@1; C@1; 3@1; see 3,3",
        "1@1; C@1; 2@1; open; 3@1; close; hooks",
    ],
)
def test_a_session_in_order_is_accepted(words: str) -> None:
    assert not told(words)


@pytest.mark.parametrize(
    "words, what",
    [
        ("1@1; 1@1", "counts 1 after one of [1]"),  # a write is lost
        ("1@1; F@1; 3@1", "counts 3 after one of [1]"),  # one of a call that failed is kept
        ("1@1; see 0,0", "0 is in it"),
        ("1@1; see 1,0", "half"),
        ("put 7; 1@1", "counts 1 after one of [7]"),
        ("1@1; close; see 1,1", "1 is in it"),
        ("L@1; F@1", "it began after t0 was told"),
        ("1@1; close; hooks; hooks", "hooks ran 2 times"),
    ],
)
def test_what_is_wrong_with_a_session_is_found(words: str, what: str) -> None:
    assert what in " ".join(told(words)) and what in " ".join(told(words, "prefer"))


def test_a_strict_session_on_two_workers_is_found() -> None:
    assert "ran on worker 2" in told("1@1; 2@2")[0]
    assert not told("1@1; 2@2", "prefer") and not told("1@1; L@; reopen; 2@2")
    assert "not strict" in told("1@1; L@", "prefer")[0]


def test_calls_of_a_session_out_of_order_are_found() -> None:
    history, story = History(), Story("s", "prefer")
    history.stories.append(story)
    for tag, count in (("a", 1), ("b", 2)):
        one = call()
        one.tag, one.count = tag, count
        story.steps.append(one)
    assert not list(checker.check_stories(history, events("Sa Ea Sb Eb")))
    assert "out of order" in next(checker.check_stories(history, events("Sb Eb Sa Ea")))


def overlaps(code: str, pool: str, *noted: tuple[str, str]) -> list[str]:
    """Of the calls a, which ends with code, and b. noted: the words of one worker each; one and the same for a time."""
    history, story, seen = History(), Story("s", pool), []
    history.stories.append(story)
    for tag, end in (("a", code), ("b", "ok")):
        one = call(end)
        one.tag, one.count, one.begun = tag, (1 if end == "ok" else 0), 1
        story.steps.append(one)
    for worker, words in noted:
        seen += [Event(word[0], worker, 7, word[1:], 100 + i / 10) for i, word in enumerate(words.split()) if word != "."]
    return list(checker.check_stories(history, sorted(seen, key=lambda e: e.time)))


@pytest.mark.parametrize(
    "noted, is_fine",
    [
        ((("1", "Sa . Ia . ."), ("2", ". . . Sb Eb")), True),
        ((("1", "Sa . . Ia ."), ("2", ". Sb Eb . .")), False),
        ((("1", "Sa . . . Ea"), ("2", ". Sb Eb . .")), False),
        ((("1", "Sa . . . ."), ("2", ". Sb Eb . .")), True),  # its worker was killed
        ((("1", "Sa . . . Sc"), ("2", ". Sb Eb . .")), False),  # it lived on
    ],
)
def test_calls_of_a_session_at_once_are_found(noted: tuple[tuple[str, str], ...], is_fine: bool) -> None:
    found = " ".join(overlaps("cancelled", "prefer", *noted))
    assert ("began while a ran" not in found) if is_fine else ("began while a ran" in found)


def test_counts_are_taken_out_of_the_answer() -> None:
    async def talk() -> tuple[Call, list[str]]:
        history = History()
        link = Link(history, "c1", "bare")
        one = Call("mine", "stub", "echo", 0, 5.0, 0)
        one.session = "s"
        link.prepare(one, {})
        link.data_received(msgpack.packb([1, 1, None, {"value": "mine 7 3", "meta": {"worker": 1}}]))
        return one, history.trouble

    one, trouble = asyncio.run(talk())
    assert (one.count, one.begun, trouble) == (7, 3, [])
