"""Sessions in a real worker: what handlers see and write, what goes back with the reply, and when it is forgotten."""
from __future__ import annotations

import pathlib
from typing import Any, Iterator, List

import msgpack
import pytest

from tests.support.worker_harness import CANCELLED, DEADLINE, WorkerHarness, session

APP = """
import datetime, json, time
from pypool_worker import current, expose, on_session_close, on_stop

KEPT = []

@expose
def run(code):
    s = current().session
    scope = {"s": s, "time": time, "datetime": datetime, "KEPT": KEPT}
    exec(code, scope)
    return scope.get("r")

@expose
def untouched(value=None):
    return value

@expose
def look():
    return dict(current().session)

@expose
def stuck():
    current().session["half"] = 1
    current().session["list"].append(2)
    time.sleep(60)

@expose
def later():
    try:
        KEPT[0]["x"] = 1
    except RuntimeError as exc:
        return [str(exc), KEPT[0].get("a")]
"""

HOOKS = """
from pypool_worker import current, expose, on_session_close, on_stop
@on_session_close
def first(session):
    print("first", session.name, dict(session))
@on_session_close
def second(session):
    try:
        session["x"] = 1
    except RuntimeError as exc:
        print("second", exc)
    if session.get("fail"):
        raise LookupError(session["fail"])
    if session.get("sleep"):
        import time
        time.sleep(60)
    print("in call", session is current().session) if session.get("look") else None
@on_stop
def stop():
    print("stopped")
@expose
def get():
    return dict(current().session)
"""


def started(directory: pathlib.Path, text: str) -> Iterator[WorkerHarness]:
    (directory / "app.py").write_text(text)
    with WorkerHarness("app", path=[str(directory)]) as worker:
        worker.start()
        yield worker


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[WorkerHarness]:
    yield from started(tmp_path, APP)


@pytest.fixture
def hooked(tmp_path: pathlib.Path) -> Iterator[WorkerHarness]:
    yield from started(tmp_path, HOOKS)


VALUES: List[Any] = [
    None, True, -1, 2 ** 64 - 1, 1.5, "ü", b"\x00\xff", [], {}, [[1], {"a": {}}], {1: 2}, "x" * 70_000,
    msgpack.ExtType(5, b"x"), msgpack.unpackb(b"\xd6\xff\x00\x00\x00\x01")]


@pytest.mark.parametrize("value", VALUES)
def test_values_come_as_they_were_committed_and_a_look_writes_nothing(worker: WorkerHarness, value: Any) -> None:
    reply = worker.in_session("look", values={"a": value, "b": 2})
    assert reply.value == {"a": value, "b": 2} and list(reply.meta) == ["run_us"]
    assert worker.in_session("look").value == {"a": value, "b": 2}


@pytest.mark.parametrize("value", VALUES)
def test_what_is_written_goes_back_with_the_reply_and_is_there_in_the_next(worker: WorkerHarness, value: Any) -> None:
    worker.in_session("look", values={"old": value})
    reply = worker.in_session("run", "s['new'] = s['old']; del s['old']; r = [len(s), sorted(s), 'old' in s]")
    assert reply.meta["session"] == {"set": {"new": value}, "del": ["old"]}
    assert reply.value == [1, ["new"], False]
    assert worker.in_session("look").value == {"new": value}


def test_the_session_is_a_dict_with_a_name(worker: WorkerHarness) -> None:
    reply = worker.in_session("run", """
s.update(a=1, b=[2]); s.setdefault("c", []).append(3)
assert s.pop("a") == 1 and s.get("a") is None and s["b"] == [2] and s == {"b": [2], "c": [3], "z": 0}
assert list(s) == ["z", "b", "c"] and len(s) == 3 and "b" in s and 5 not in s and bool(s)
for missing in ("a", "nothing"):
    try: s[missing]
    except KeyError: pass
    else: raise AssertionError
    try: del s[missing]
    except KeyError: pass
    else: raise AssertionError
r = [s.name, repr(s)]
""", name="cart", values={"z": 0})
    assert reply.error is None, reply.error
    assert reply.value == ["cart", "<Session 'cart' with ['z', 'b', 'c']>"]
    assert reply.meta["session"] == {"set": {"b": [2], "c": [3]}}


def test_clear_deletes_what_was_committed(worker: WorkerHarness) -> None:
    reply = worker.in_session("run", "s['c'] = 1; s.clear(); s['b'] = 3", values={"a": 1, "b": 2})
    assert reply.meta["session"] == {"set": {"b": 3}, "del": ["a"]}


def test_a_value_is_one_object_in_a_call_and_a_fresh_one_in_the_next(worker: WorkerHarness) -> None:
    first = worker.in_session("run", "r = s['a'] is s['a']; s['a'].append(9)", values={"a": [1]})
    assert first.value is True and first.meta["session"] == {"set": {"a": [1, 9]}}
    assert worker.in_session("run", "KEPT.append(s['a']); KEPT[0].append('lost'); raise ValueError").code == "app_error"
    assert worker.in_session("look").value == {"a": [1, 9]}


@pytest.mark.parametrize("code,written", [
    ("s['a']['k'] = 1", {"a": {"k": 1, "l": []}}), ("s['a']['l'].append(1)", {"a": {"k": 0, "l": [1]}}),
    ("s['a']['k'] += 0", None), ("s['a']; s['b']; s['c']", None), ("s['a'] = s['a']", None), ("s['b'] = s['b']", None),
    ("v = s['n'] = bytearray(b'x'); v += b'y'", {"n": b"xy"}), ("v = s['n'] = [1]; v.append(2)", {"n": [1, 2]}),
    ("s['n'] = 1; del s['n']", None), ("s['n'] = (1, 2)", {"n": [1, 2]})])
def test_changes_in_place_are_writes_and_mere_looks_are_none(worker: WorkerHarness, code: str, written: Any) -> None:
    reply = worker.in_session("run", code, values={"a": {"k": 0, "l": []}, "b": "x", "c": b"y"})
    assert reply.meta.get("session") == (None if written is None else {"set": written})


def test_a_look_at_what_somebody_else_encodes_otherwise_writes_nothing(worker: WorkerHarness) -> None:
    wide = b"\x92\xcf" + bytes(7) + b"\x01\xca\x3f\x80\x00\x00"  # [1 in 64 bits, 1.0 in 32]
    head = b"\x94\x00\x05\xa7execute\x91\x83\xa6target\xa3run\xa7session\x85\xa2id\x01\xa4name\xa1s\xa4send\x01"
    worker.send_raw(head + b"\xa5bound\xc3\xa6values\x81\xa1a" + wide + b"\xa4args" + msgpack.packb(["r = s['a']"]))
    reply = worker.receive()
    assert reply.value == [1, 1.0] and list(reply.meta) == ["run_us"]
    assert worker.in_session("run", "s['a'].pop()").meta["session"] == {"set": {"a": [1]}}
    assert worker.in_session("run", "s['a'].append(2)").meta["session"] == {"set": {"a": [1, 2]}}


@pytest.mark.parametrize("code", ["raise ValueError", "import sys; sys.exit()", "r = object()", "s['z'] = object()"])
def test_nothing_is_kept_of_a_call_that_fails(worker: WorkerHarness, code: str) -> None:
    worker.in_session("look", values={"a": [1], "b": 2})
    reply = worker.in_session("run", "s['a'].append(2); s['n'] = 1; del s['b']\n" + code)
    assert reply.error is not None and list(reply.meta) == ["run_us"]
    assert worker.in_session("look").value == {"a": [1], "b": 2}


@pytest.mark.parametrize("reason,code", [(CANCELLED, "cancelled"), (DEADLINE, "deadline_exceeded")])
def test_nothing_is_kept_of_a_call_that_is_interrupted(worker: WorkerHarness, reason: int, code: str) -> None:
    call = worker.request("stuck", session=session(values={"list": [1]}))
    worker.wait_for_frame("stuck")
    worker.interrupt(call, reason)
    reply = worker.receive()
    assert reply.code == code and list(reply.meta) == ["run_us"]
    assert worker.in_session("look").value == {"list": [1]}


def test_nothing_is_kept_when_the_reply_is_too_large(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with WorkerHarness("app", path=[str(tmp_path)], max_reply=10_000) as worker:
        worker.start()
        reply = worker.in_session("run", "s['big'] = 'x' * 9_000; r = 'y' * 2_000", name="cart", values={})
        assert reply.code == "too_large" and "goes into session 'cart' take" in reply.message
        assert worker.in_session("look").value == {}
        assert worker.in_session("run", "s['big'] = 'x' * 9_000").error is None


@pytest.mark.parametrize("value,words", [
    ("{'b': [1, {2}]}", 'session["a"]["b"][1] is a set, which MessagePack cannot carry; store sorted('),
    ("datetime.datetime.now()", 'session["a"] is a datetime.datetime, which MessagePack cannot carry; call .isoformat'),
    ("2 ** 64", 'session["a"] is an integer of more than 64 bits'),
    ("[s.setdefault('l', [])]; s['l'].append(s['l'])", 'session["l"][0][0]')])
def test_what_cannot_be_encoded_is_named_with_its_key(worker: WorkerHarness, value: str, words: str) -> None:
    reply = worker.in_session("run", f"s['a'] = {value}", values={})
    assert reply.code == "unserializable" and reply.message.startswith(words)
    assert reply.error is not None and reply.error["cause"]["file"].endswith("/app.py")
    assert worker.in_session("look").value == {}


def test_values_are_nested_as_deep_as_the_wire_carries_them_back(worker: WorkerHarness) -> None:
    make = "v = []\nfor _ in range({}): v = [v]\ns['deep'] = v"
    reply = worker.in_session("run", make.format(507), values={})
    assert reply.error is None, reply.message
    assert "nested deeper than 507 levels" in worker.in_session("run", make.format(508)).message


@pytest.mark.parametrize("key,words", [
    ("5", "TypeError: a key of a session is text, not int"), ("b'a'", "text, not bytes"), ("''", "this one has 0"),
    ("'ü' * 128", "1 to 255 bytes of UTF-8, this one has 256"), ("'\\ud800'", "lone surrogates")])
def test_keys_are_text_of_1_to_255_bytes(worker: WorkerHarness, key: str, words: str) -> None:
    reply = worker.in_session("run", f"s[{key}] = 1", values={})
    assert reply.code == "app_error" and words in reply.message
    assert worker.in_session("run", "s['ü' * 127 + 'x'] = 1").error is None


def test_a_call_without_a_session_says_so(worker: WorkerHarness) -> None:
    worker.in_session("look", values={"a": 1})
    reply = worker.call("look")
    assert reply.code == "app_error" and "RuntimeError: this call runs in no session" in reply.message


def test_sessions_do_not_mix(worker: WorkerHarness) -> None:
    for number in range(1, 6):
        worker.in_session("run", f"s['n'] = {number}", number=number, values={})
    for number in range(1, 6):
        assert worker.in_session("look", number=number).value == {"n": number}


def test_values_that_are_sent_replace_what_the_worker_has(worker: WorkerHarness) -> None:
    worker.in_session("run", "s['mine'] = 1", values={"a": 1})
    assert worker.in_session("look", values={"b": 2}, send=2).value == {"b": 2}
    assert worker.in_session("look").value == {"b": 2}


def test_values_are_kept_also_when_the_call_itself_is_no_good(worker: WorkerHarness) -> None:
    for number, args in ((1, b"\x91\xa2\xff\xfe"), (2, b"\x05"), (3, b"\x91" * 2000 + b"\xc0")):
        body = msgpack.packb([0, number, "execute", [{"target": "look", "session": session(number, values={"a": 1})}]])
        worker.send_raw(body.replace(b"\x91\x82\xa6target", b"\x91\x83\xa6target") + b"\xa4args" + args)
        assert worker.receive().code == "bad_request"
        assert worker.in_session("look", number=number).value == {"a": 1}
    assert worker.in_session("nothing", number=4, values={"a": 2}).code == "unknown_target"
    assert worker.in_session("look", number=4).value == {"a": 2}


@pytest.mark.parametrize("padding", [0, 5000])
def test_a_value_that_python_cannot_hold_harms_only_who_asks_for_it(worker: WorkerHarness, padding: int) -> None:
    values = msgpack.packb({"good": "x" * padding, "bad": b"??"}).replace(b"\xc4\x02??", b"\xa2\xff\xfe")
    for target, args in (("untouched", [1]), ("run", ["r = len(s)"]), ("run", ["s['bad']"])):
        frame = msgpack.packb([0, 7, "execute", [{"target": target, "session": session(values={}), "args": args}]])
        worker.send_raw(frame.replace(b"\xa6values\x80", b"\xa6values" + values))
        reply = worker.receive()
        assert reply.message.startswith("ValueError: session['bad'] holds what Python cannot: text that is not UTF-8") \
            if args == ["s['bad']"] else reply.error is None, reply.error


def test_without_values_and_without_a_copy_nothing_is_made_up(worker: WorkerHarness) -> None:
    reply = worker.in_session("look", name="cart")
    assert reply.code == "internal" and "without the values of session 'cart'" in reply.message
    assert worker.in_session("look", values={}).value == {}


@pytest.mark.parametrize("told", [5, {}, {**session(), "id": "1"}, {**session(), "send": None},
                                  {**session(), "values": 5}])
def test_fault_11_a_session_of_a_wrong_shape_is_a_bad_request(worker: WorkerHarness, told: Any) -> None:
    worker.request("untouched", [], session=told)
    assert worker.receive().code == "bad_request"


def test_forget_drops_a_copy_that_was_not_sent_since(worker: WorkerHarness) -> None:
    worker.in_session("look", values={"a": 1}, send=3)
    for number, send in ((1, 2), (9, 9)):
        worker.send_control("forget", {"session": number, "send": send})
    worker.send_control("ping", {"seq": 1})
    worker.expect("pong")
    assert worker.in_session("look", send=3).value == {"a": 1}
    worker.send_control("forget", {"session": 1, "send": 3})
    worker.send_control("ping", {"seq": 2})
    worker.expect("pong")
    assert worker.in_session("look", send=3).code == "internal"


def test_a_forget_without_numbers_ends_the_worker(worker: WorkerHarness) -> None:
    worker.send_control("forget", {"session": 1})
    assert worker.wait() == 1
    assert "control packet without session and send" in worker.stderr()


def test_a_session_that_is_kept_beyond_its_call_is_read_only(worker: WorkerHarness) -> None:
    worker.in_session("run", "KEPT.append(s)", values={"a": 1})
    assert worker.call("later").value == [
        "the call is over: what is written into its session now would be lost", 1]
    assert worker.in_session("look").value == {"a": 1}


def test_ready_says_whether_there_are_hooks(tmp_path: pathlib.Path) -> None:
    for text, expected in ((APP, False), (HOOKS, True)):
        (tmp_path / "app.py").write_text(text)
        with WorkerHarness("app", path=[str(tmp_path)]) as worker:
            name, fields = worker.init()
            assert name == "ready" and fields["session_close"] is expected


def test_hooks_see_the_values_at_the_close_last_registered_first(hooked: WorkerHarness) -> None:
    hooked.in_session("get", values={"a": 1})
    reply = hooked.close_session(values={"a": 2, "look": True})
    assert (reply.error, reply.value, list(reply.meta)) == (None, None, ["run_us"])
    assert hooked.in_session("get").code == "internal", "the copy is gone"
    assert hooked.stop() == 0
    assert hooked.stdout() == ("second the session is closed: its values can be read and not written any more\n"
                               "in call True\nfirst s {'a': 2, 'look': True}\nstopped\n")


def test_a_hook_that_raises_is_the_answer_and_the_others_run(hooked: WorkerHarness) -> None:
    hooked.in_session("get", values={"fail": "no such order"})
    reply = hooked.close_session()
    assert reply.code == "app_error" and reply.message.startswith("LookupError: no such order, app.py line ")
    hooked.wait_for_output("stdout", "first s")
    assert hooked.close_session().code == "internal"


def test_a_hook_can_be_interrupted(hooked: WorkerHarness) -> None:
    told = {"session": session(values={"sleep": True})}
    hooked.send_raw(msgpack.packb([0, 88, "session_close", [told]]))
    hooked.wait_for_frame("second")
    hooked.interrupt(88, DEADLINE)
    reply = hooked.receive()
    assert reply.code == "deadline_exceeded" and "in a hook of on_session_close: app.py line" in reply.message
    assert hooked.stop() == 0
    assert "first" not in hooked.stdout()


def test_at_a_stop_hooks_run_for_bound_sessions_before_the_stop_hooks(hooked: WorkerHarness) -> None:
    hooked.in_session("get", number=1, name="bound", values={"a": 1})
    hooked.in_session("get", number=2, name="free", bound=False, values={"a": 2})
    hooked.in_session("get", number=3, name="failing", values={"fail": "x"})
    hooked.in_session("get", number=4, name="gone", values={})
    hooked.send_control("forget", {"session": 4, "send": 1})
    assert hooked.stop() == 0
    assert [line for line in hooked.stdout().splitlines() if not line.startswith("second")] == [
        "first bound {'a': 1}", "first failing {'fail': 'x'}", "stopped"]
    assert "LookupError: x" in hooked.stderr()


def test_session_close_without_a_session_is_a_bad_request(hooked: WorkerHarness) -> None:
    hooked.send_raw(msgpack.packb([0, 3, "session_close", [{}]]))
    assert hooked.receive().code == "bad_request"
