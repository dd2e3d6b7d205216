"""The log in the journal: fields that journalctl can select by."""

from __future__ import annotations

from tests.systemd.service import Service, installed_pool


def test_records_of_the_daemon_have_their_fields(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")}, log_level="debug")
    service.start()
    main = str(service.main_pid())
    with service.client() as c:
        c.execute("echo", 1)
        (worker,) = c.call("workers")
    (ready,) = service.journal.records("PYPOOL_EVENT=daemon.ready")
    assert ready["MESSAGE"].startswith("daemon.ready pools=1")
    assert (ready["PRIORITY"], ready["_PID"], ready["SYSLOG_IDENTIFIER"]) == ("6", main, "pypoold")
    assert ready["_SYSTEMD_UNIT"] == service.unit
    (done,) = service.journal.records("PYPOOL_EVENT=call.done")
    assert (done["PYPOOL_POOL"], done["PRIORITY"]) == ("default", "7") and int(done["PYPOOL_CALL"]) > 0
    states = service.journal.records("PYPOOL_EVENT=worker.state", f"PYPOOL_WORKER={worker['worker']}")
    assert [(r["PYPOOL_STATE"], r["PRIORITY"]) for r in states][:2] == [("initializing", "6"), ("idle", "7")]


def test_each_line_of_a_worker_is_a_record_with_its_call(service: Service) -> None:
    service.configure({"default": installed_pool("prints")})
    service.start()
    calls = []
    with service.client() as c:
        (worker,) = c.call("workers")
        for text in ("one", "two"):
            calls.append(str(c.execute("say", text)))
    service.stop()
    records = service.journal.records("PYPOOL_EVENT=worker.output")
    told = [(r["PYPOOL_TEXT"], r["PYPOOL_SOURCE"], r.get("PYPOOL_CALL")) for r in records]
    assert told == [
        ("importing", "stdout", None),
        ("one", "stdout", calls[0]),
        ("two", "stdout", calls[1]),
        ("leaving", "stdout", None),
    ]
    for record in records:
        assert (record["PYPOOL_POOL"], record["PRIORITY"]) == ("default", "6")
        assert record["PYPOOL_WORKER"] == str(worker["worker"])
        assert record["PYPOOL_TEXT"] in record["MESSAGE"]


def test_a_trace_selects_all_that_belongs_to_a_call(service: Service) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    service.configure({"default": installed_pool("nasty")})
    service.start()
    with service.client() as c:
        c.execute("context", traceparent=trace)
        assert c.fail("execute", target="sleep", args=[60], timeout_ms=100, traceparent=trace).code == "deadline_exceeded"
    service.stop()
    found = service.journal.records(f"PYPOOL_TRACEPARENT={trace}")
    assert [r["PYPOOL_EVENT"] for r in found][:2] == ["worker.output", "call.done"]
    assert "seen in the log" in found[0]["PYPOOL_TEXT"] and found[1]["PYPOOL_RESULT"] == "deadline_exceeded"
    assert len({r["PYPOOL_CALL"] for r in found[:2]}) == 2
