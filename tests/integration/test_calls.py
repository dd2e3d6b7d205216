"""Calls: values there and back, errors that explain themselves, pools, queues and many callers at once."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.client import CallError, Framing
from tests.support.daemon import SLOW, Daemon, pool
from tests.support.scenes import lines, pool_of, wait_queued, wait_running, wait_workers, workers

StartDaemon = Callable[..., Daemon]

VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, -(2**63), 2**64 - 1, 1.5, float("inf"), "", "naïve ☃", b"", b"\x00\xff", [], {},
    [[[]]], {"a": {"b": [1, {"c": None}]}}, {1: "integer key", "x": 2}, "x" * 70_000, b"\xa5" * 70_000,
    list(range(20_000)),
]


@pytest.mark.parametrize("framing", ["prefixed", "bare"])
def test_every_kind_of_value_goes_there_and_back_unchanged(start_daemon: StartDaemon, framing: Framing) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client(framing=framing) as c:
        for value in VALUES:
            got = c.execute("echo", value)
            assert got == value and type(got) is type(value)
            assert c.execute("echo", kw={"value": value}) == value
        assert c.execute("echo") is None


def test_eight_mib_go_there_and_back(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    block = os.urandom(1 << 16) * 128
    with daemon.client() as c:
        assert c.execute("echo", block) == block
        assert c.execute("big", 1 << 23) == b"\xa5" * (1 << 23)
        assert c.execute("deep", 100) == eval("[" * 100 + "]" * 100)


def test_a_result_over_max_reply_is_too_large_and_its_worker_lives(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_reply="64K")})
    with daemon.client() as c:
        pid = c.execute("pid")
        error = c.fail_execute("big", 100_000)
        assert (error.code, error.executed) == ("too_large", "yes")
        assert "65536" in error.message
        assert c.execute("pid") == pid


def test_an_exception_is_told_with_type_place_and_chained_traceback(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        error = c.fail_execute("raise_chained")
        assert (error.code, error.executed, error.fields["pool"]) == ("app_error", "yes", "default")
        assert error.message.startswith("LookupError: no such order, nasty.py line ")
        assert (error.cause["type"], error.cause["module"]) == ("LookupError", "builtins")
        assert error.cause["message"] == "no such order"
        assert error.cause["file"].endswith("/nasty.py")
        assert "invalid literal for int()" in error.cause["traceback"]
        assert "in raise_chained" in error.cause["traceback"]


def test_arguments_that_do_not_fit_are_an_error_of_the_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    wrong: list[Any] = [[1, 2, 3], {"no_such_argument": 1}]
    with daemon.client() as c:
        for args in wrong:
            error = c.fail("execute", target="echo", args=args)
            assert error.code == "app_error" and error.cause["type"] == "TypeError"
            assert "echo()" in error.message


def test_a_result_that_cannot_be_encoded_says_where_it_is(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        error = c.fail_execute("unserializable")
        assert (error.code, error.executed) == ("unserializable", "yes")
        assert 'result["a"][3] is a set' in error.message


def test_fault_116_only_exposed_names_can_be_called(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    paths = (
        *("nope", "os.system", "os:system", "nasty:os.system", "nasty.os.system", "subprocess:run", "builtins:eval"),
        *("__import__", "__builtins__", "echo.__call__", "echo.__globals__", "echo.__class__.__mro__", "nasty:__dict__"),
        *("nasty:echo.__globals__", "pypool_worker:current", "..echo", "nasty:", "nasty:echo:echo", "echo ", "ECHO"),
    )
    unknown = {target: "append_line, " for target in paths}
    hidden = {target: "put @expose on it" for target in ("not_exposed", "nasty:not_exposed")}
    misspelt = {":echo": ":echo"}
    with daemon.client() as c:
        for target, words in {**unknown, **hidden, **misspelt}.items():
            error = c.fail_execute(target)
            assert (error.code, error.executed) == ("unknown_target", "never"), target
            assert words in error.message, "it says what there is, or what to do"


def test_fault_116_nothing_is_unpickled(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    data = pickle.dumps(Payload())
    with daemon.client() as c:
        for value in (data, msgpack.ExtType(1, data), {"py/object": "os.system"}, {b"__reduce__": [data]}):
            try:
                c.execute("echo", value)
            except CallError as error:  # an extension type may be refused, as long as it is not looked into
                assert error.code in ("app_error", "unserializable", "bad_request")
        assert c.execute("echo", data) == data, "bytes are bytes"
    assert not mark.exists()


def test_meta_tells_worker_pid_and_times(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        worker = workers(c)[0]
        held = c.start_execute("sleep", 0.4)
        answer = c.execute("sleep", 0.05, meta=True)
        c.wait(held).value()
        assert answer["value"] == 0.05
        meta = answer["meta"]
        assert (meta["worker"], meta["pid"]) == (worker["worker"], worker["pid"])
        assert 100_000 < meta["queue_us"] < 400_000 + 1e6 * SLOW
        assert 50_000 <= meta["run_us"] < 50_000 + 1e6 * SLOW


def test_a_thousand_pipelined_calls_of_ten_clients_each_get_their_own_reply(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 3)})
    clients = [daemon.client(framing="bare" if i % 2 else "prefixed") for i in range(10)]
    try:
        numbers = [(c, i, k, c.start_execute("echo", [i, k])) for k in range(100) for i, c in enumerate(clients)]
        for c, i, k, number in numbers:
            assert c.wait(number).value() == [i, k]
        assert pool_of(clients[0])["completed"] == 1000
    finally:
        for c in clients:
            c.close()


def test_calls_of_one_client_spread_over_all_workers(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 3)})
    with daemon.client() as c:
        numbers = [c.start_execute("sleep", 1.0) for _ in range(3)]
        assert len({r["worker"] for r in wait_running(c, "sleep", 3)}) == 3
        assert [c.wait(n).value() for n in numbers] == [1.0] * 3


def test_a_worker_runs_one_call_at_a_time(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        numbers = [c.start_execute("sleep", 0.02) for _ in range(10)]
        while not c.replies.get(numbers[-1]):
            running = [r["worker"] for r in c.call("queue") if r["state"] == "running"]
            assert len(running) == len(set(running)) <= 2
        for n in numbers:
            c.wait(n).value()


def test_clients_take_turns_however_many_calls_one_of_them_has_waiting(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    ledger = tmp_path / "ledger"
    with daemon.client() as greedy, daemon.client() as modest:
        held = greedy.start_execute("sleep", 60)
        wait_running(modest, "sleep")
        many = [greedy.start_execute("append_line", str(ledger), f"greedy {i}") for i in range(20)]
        wait_queued(modest, 20)
        few = [modest.start_execute("append_line", str(ledger), f"modest {i}") for i in range(2)]
        wait_queued(modest, 22)
        assert greedy.call("cancel", id=held) is True
        for number in few:
            modest.wait(number).value()
        for number in many:
            greedy.wait(number).value()
        assert greedy.wait_error(held).code == "cancelled"
        order = lines(ledger)
        assert order.index("modest 1") <= 4, order
        assert [x for x in order if x[0] == "g"] == [f"greedy {i}" for i in range(20)], "each in its own order"


def test_over_max_queue_a_call_is_overloaded_and_never_run(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon({"default": pool("nasty", 1, max_queue=3)})
    ledger = tmp_path / "ledger"
    with daemon.client() as c:
        held = c.start_execute("sleep", 60)
        wait_running(c, "sleep")
        kept = [c.start_execute("append_line", str(ledger), str(i)) for i in range(3)]
        error = c.fail_execute("append_line", str(ledger), "one too many")
        assert (error.code, error.executed) == ("overloaded", "never")
        assert "max_queue is 3" in error.message
        assert c.call("cancel", id=held) is True
        for number in kept:
            c.wait(number).value()
        assert c.wait_error(held).code == "cancelled"
        assert lines(ledger) == ["0", "1", "2"]


def test_a_pool_is_chosen_by_name_then_default_then_the_only_one(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"left": pool("nasty", 1), "right": pool("nasty", 1)})
    with daemon.client() as c:
        pids = {p: c.execute("pid", pool=p) for p in ("left", "right")}
        assert pids == {p: workers(c, pool=p)[0]["pid"] for p in ("left", "right")}
        error = c.fail_execute("pid")
        assert (error.code, error.executed) == ("bad_request", "never")
        assert "left" in error.message and "right" in error.message
        error = c.fail_execute("pid", pool="middle")
        assert (error.code, error.executed) == ("unknown_pool", "never")
        assert "left" in error.message and "right" in error.message


def test_a_pool_called_default_is_taken_when_none_is_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"left": pool("nasty", 1), "default": pool("nasty", 1)})
    with daemon.client() as c:
        assert c.execute("pid") == workers(c, pool="default")[0]["pid"]


def test_the_only_pool_is_taken_when_none_is_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"left": pool("nasty", 1)})
    with daemon.client() as c:
        assert c.execute("pid") == workers(c)[0]["pid"]


def test_traceparent_and_call_number_reach_the_handler(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with daemon.client() as c:
        seen = c.execute("context", traceparent=trace)
        assert seen["trace"] == trace and seen["call_id"] >= 1
        assert f"INFO call {seen['call_id']}: seen in the log" in [line["text"] for line in c.call("logs")]


def test_a_handler_has_an_empty_stdin_and_only_the_descriptors_of_a_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        assert c.execute("stdin_and_fds") == ["", [0, 1, 2, 3, 4, 5, 6]]


def test_workers_say_goodbye_when_the_daemon_stops(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    daemon.stop()
    assert daemon.log().count('text="goodbye from on_stop"') == 2


def test_status_and_pools_and_workers_agree(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2)})
    with daemon.client() as c:
        c.execute("echo", 1)
        c.fail_execute("raise_chained")
        running = c.start_execute("sleep", 1.0)
        wait_running(c, "sleep")
        calls, counters = c.call("status")["calls"], pool_of(c)
        for key, expected in {"accepted": 3, "completed": 1, "failed": 1, "running": 1, "queued": 0}.items():
            assert calls[key] == counters[key] == expected, key
        assert {w["state"] for w in workers(c)} == {"busy", "idle"}
        assert counters["busy"] == counters["idle"] == 1
        c.wait(running).value()
        wait_workers(c, "idle", 2)
        assert sum(w["calls"] for w in workers(c)) == 3
