"""traceparent: what a caller gives reaches the handler, and each record of the log that belongs to the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.daemon import Daemon, pool
from tests.support.scenes import wait_running
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]
Record = dict[str, Any]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


def start(start_daemon: StartDaemon, level: str = "debug", **settings: Any) -> Daemon:
    return start_daemon({"default": pool("nasty", 1, **settings)}, log_format="json", log_level=level)


def records(daemon: Daemon, event: str) -> list[Record]:
    whole = daemon.log().rpartition("\n")[0]  # the last line may just be being written
    found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [record for record in found if record["event"] == event]


def wait_record(daemon: Daemon, event: str, **fields: Any) -> Record:
    def look() -> list[Record]:
        return [r for r in records(daemon, event) if all(r.get(key) == value for key, value in fields.items())]

    found = eventually(look, f"{event} {fields}")
    assert found is not None and len(found) == 1
    return found[0]


def test_a_trace_is_in_the_records_of_its_call_and_in_no_other(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        assert c.execute("context", traceparent=TRACE)["trace"] == TRACE
        call = wait_record(daemon, "call.done", result="ok", traceparent=TRACE)["call"]
        line = wait_record(daemon, "worker.output", call=call)
        assert "seen in the log" in line["text"] and line["traceparent"] == TRACE
        assert c.execute("context")["trace"] is None
        c.execute("write", "stdout", "nobody's\n")
    wait_record(daemon, "worker.output", text="nobody's")
    without = [r for event in ("call.done", "worker.output") for r in records(daemon, event) if r.get("call") != call]
    assert len(without) >= 4 and not [r for r in without if "traceparent" in r]


def test_each_line_has_the_trace_of_its_own_call(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    with daemon.client() as c:
        numbers = [c.start_execute("write", "stderr", f"line {trace}\n", traceparent=trace) for trace in (TRACE, OTHER, TRACE)]
        for number in numbers:
            c.wait(number).value()
    eventually(lambda: len(records(daemon, "worker.output")) == 3, "three lines")
    assert [r["text"] == f"line {r['traceparent']}" for r in records(daemon, "worker.output")] == [True] * 3


def test_failures_that_are_not_the_handlers_are_told_at_the_usual_level(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, "info", slow_call="100ms", cancel_grace="100ms", stop_timeout="100ms", poison_kills=9)
    with daemon.client() as c:
        c.execute("echo", 1, traceparent=TRACE)
        assert c.fail("execute", target="sleep", args=[60], timeout_ms=400, traceparent=TRACE).code == "deadline_exceeded"
        assert c.fail("execute", target="sleep", args=[60], timeout_ms=400).code == "deadline_exceeded"
        assert c.fail("execute", target="os_exit", args=[3], traceparent=OTHER).code == "worker_died"
        assert c.fail("execute", target="no_such_thing", traceparent=TRACE).code == "unknown_target"
        assert c.fail("execute", target="raise_chained", traceparent=TRACE).code == "app_error"
    slow = wait_record(daemon, "call.slow", traceparent=TRACE)
    assert slow["target"] == "sleep" and "sleep" in slow["stack"]
    eventually(lambda: len(records(daemon, "call.slow")) == 2, "the other one is slow too")
    done = wait_record(daemon, "call.done", result="deadline_exceeded", traceparent=TRACE)
    assert done["level"] == "info" and done["call"] == slow["call"]
    wait_record(daemon, "call.done", result="worker_died", traceparent=OTHER)
    wait_record(daemon, "call.killed", traceparent=OTHER)
    told = [(r["result"], r.get("traceparent")) for r in records(daemon, "call.done")]
    assert told == [("deadline_exceeded", TRACE), ("worker_died", OTHER), ("unknown_target", TRACE)]


def test_a_call_that_waits_in_vain_is_told_with_its_trace(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, "info")
    with daemon.client() as c, daemon.client() as observer:
        running = c.start_execute("sleep", 60)
        wait_running(observer, "sleep")
        error = c.fail("execute", target="echo", args=[1], queue_timeout_ms=50, traceparent=TRACE)
        assert error.code == "queue_timeout"
        assert c.call("cancel", id=running) is True
        assert c.wait_error(running).code == "cancelled"
    wait_record(daemon, "call.done", result="queue_timeout", traceparent=TRACE, worker=0)


def test_a_large_call_keeps_its_trace_after_its_body_has_gone(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon, "info", slow_call="50ms")
    with daemon.client() as c:
        number = c.start_execute("write_and_sleep", "stdout", "y" * 200_000 + "\n", 0.3, traceparent=TRACE)
        c.wait(number).value()
    wait_record(daemon, "call.slow", traceparent=TRACE, target="write_and_sleep")


def test_the_longest_trace_and_a_hostile_one(start_daemon: StartDaemon) -> None:
    daemon = start(start_daemon)
    longest = "é" * 127 + "x"
    with daemon.client() as c:
        assert c.execute("context", traceparent=longest)["trace"] == longest
        for bad in ("x" * 256, "", "a\nb", "a\x00b", "\x1b[31m"):
            assert c.fail("execute", target="echo", traceparent=bad).code == "bad_request"
    wait_record(daemon, "call.done", result="ok", traceparent=longest)
    assert wait_record(daemon, "worker.output", traceparent=longest)
