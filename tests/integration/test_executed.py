"""`executed: never` is true: for each error code a scene in which a call ends with it, and the ledger of the handler that
was to run. A call that comes later shows that the worker would have got to it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import CallError
from tests.support.daemon import Daemon, pool
from tests.support.scenes import lines, wait_dead, wait_queued, wait_running, workers
from tests.support.users import ALICE, client_of, needs_root

StartDaemon = Callable[..., Daemon]
ROOT = Path(__file__).resolve().parents[2]

# What this version does not send.
RESERVED = {"paused"}
# Never is not what these say of themselves, and no scene makes it so.
RAN = {"worker_died", "worker_protocol", "app_error", "unserializable", "internal"}


def note(ledger: Path, **options: Any) -> dict[str, Any]:
    """The params of the call that must not run."""
    return {"target": "append_line", "args": [str(ledger), "ran"], **options}


class Stage:
    """A daemon with one worker that is busy until it is seen what is refused, if it shall be."""

    def __init__(self, start: StartDaemon, ledger: Path, busy: bool = False, **settings: Any) -> None:
        top = {key: settings.pop(key) for key in ("uid_max_calls", "max_frame", "access", "socket_mode") if key in settings}
        self.daemon = start({"default": pool("nasty", 1, **settings)}, **top)
        self.ledger = ledger
        self.client = self.daemon.client()
        self.busy = self.client.start_execute("sleep", 60) if busy else None
        if busy:
            wait_running(self.client, "sleep")

    def free(self) -> None:
        """The worker is not busy any more."""
        if self.busy is not None:
            assert self.client.call("cancel", id=self.busy) is True
            assert self.client.wait_error(self.busy).code == "cancelled"
            self.busy = None

    def refused(self, code: str, error: CallError) -> None:
        """The error is that one, and a later call is the first that the ledger knows."""
        assert (error.code, error.executed) == (code, "never"), error
        self.free()
        self.client.close()
        with self.daemon.client() as c:
            c.call("execute", target="append_line", args=[str(self.ledger), "control"])
        assert lines(self.ledger) == ["control"]


def broken_input(s: Stage, data: bytes) -> CallError:
    """That, with a good call behind it in the same write, on a connection of its own."""
    with s.daemon.client() as c:
        call = c.frame(packed([0, 7, "execute", [note(s.ledger)]]))
        c.send_bytes(data + call)
        error = c.wait_error(None)
        c.wait_closed()
        return error


def packed(message: Any) -> bytes:
    import msgpack

    return bytes(msgpack.packb(message))


def scene_bad_frame(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("bad_frame", broken_input(s, b"\0\0\0\0"))


def scene_bad_msgpack(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("bad_msgpack", broken_input(s, b"\0\0\0\x01\xc1"))


def scene_too_large(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("too_large", broken_input(s, b"\x7f\xff\xff\xff"))


def scene_bad_request(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("bad_request", s.client.fail("execute", **note(ledger, timeout_ms=-1)))


def scene_unknown_method(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("unknown_method", s.client.fail("exec", **note(ledger)))


def scene_unknown_pool(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("unknown_pool", s.client.fail("execute", **note(ledger, pool="other")))


def scene_unknown_target(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("unknown_target", s.client.fail("execute", **{**note(ledger), "target": "append_lines"}))


def scene_invalid_checkout_type(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("invalid_checkout_type", s.client.fail("checkout", type="exclusive"))


def scene_duplicate_id(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True)
    with s.daemon.client() as c:
        c.send([0, 50, "execute", [{"target": "sleep", "args": [0.1]}]])
        c.send([0, 50, "execute", [note(ledger)]])
        error = c.wait_error(50)
        s.free()
        c.wait(50)
    s.refused("duplicate_id", error)


def scene_quota(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True, uid_max_calls=1)
    s.refused("quota", s.client.fail("execute", **note(ledger)))


def scene_overloaded(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True, max_queue=1)
    waits = s.client.start_execute("echo", 1)
    wait_queued(s.client, 1)
    error = s.client.fail("execute", **note(ledger))
    s.free()
    s.client.wait(waits)
    s.refused("overloaded", error)


def scene_queue_timeout(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True)
    s.refused("queue_timeout", s.client.fail("execute", **note(ledger, queue_timeout_ms=20)))


def scene_deadline_exceeded(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True)
    s.refused("deadline_exceeded", s.client.fail("execute", **note(ledger, timeout_ms=20)))


def scene_cancelled(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True)
    number = s.client.start("execute", **note(ledger))
    assert s.client.call("cancel", id=number) is True
    s.refused("cancelled", s.client.wait_error(number))


def scene_lease_not_found(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    s.refused("lease_not_found", s.client.fail("execute", **note(ledger, lease=99)))


def scene_lease_expired(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger)
    lease = s.client.call("checkout", type="anonymous")["lease"]
    s.client.call("checkin", lease=lease)
    s.refused("lease_expired", s.client.fail("execute", **note(ledger, lease=lease)))


def scene_init_failed(start: StartDaemon, ledger: Path) -> None:
    daemon = start({"default": pool("import_error", 1)})
    with daemon.client() as c:
        error = c.fail("execute", **note(ledger))
    assert (error.code, error.executed) == ("init_failed", "never")
    assert lines(ledger) == []


def scene_circuit_open(start: StartDaemon, ledger: Path) -> None:
    daemon = start({"default": pool("nasty", 1, breaker_failures=1, breaker_reset="20s")})
    with daemon.client() as c:
        worker = workers(c)[0]["worker"]
        c.fail_execute("crash")
        wait_dead(c, worker)
        error = c.fail("execute", **note(ledger))
    assert (error.code, error.executed) == ("circuit_open", "never")
    assert lines(ledger) == []


def scene_poisoned(start: StartDaemon, ledger: Path) -> None:
    daemon = start({"default": pool("leaver", 1, poison_kills=2)})
    with daemon.client() as c:
        errors = [c.fail_execute("append_and_die", str(ledger)) for _ in range(4)]
        assert [(e.code, e.executed) for e in errors] == 2 * [("worker_died", "maybe")] + 2 * [("poisoned", "never")]
        assert c.execute("pid") > 0
    assert lines(ledger) == ["begun", "begun"]


def scene_draining(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, busy=True)
    waits = s.client.start("execute", **note(ledger))
    wait_queued(s.client, 1)
    s.daemon.signal(signal.SIGTERM)
    error = s.client.wait_error(waits)
    assert (error.code, error.executed) == ("draining", "never")
    s.free()
    s.client.close()
    s.daemon.stop(quiet=False)  # it may have ended already
    assert lines(ledger) == []


class SessionStage(Stage):
    """One worker, and sessions in it."""

    def __init__(self, start: StartDaemon, ledger: Path, **settings: Any) -> None:
        super().__init__(start, ledger, session_reserve=0, **settings)


def scene_session_not_found(start: StartDaemon, ledger: Path) -> None:
    s = SessionStage(start, ledger)
    s.refused("session_not_found", s.client.fail("execute", **note(ledger, session="s", open=False)))


def scene_session_lost(start: StartDaemon, ledger: Path) -> None:
    """One call waits behind the one that ran when its worker died, one comes later."""
    s = SessionStage(start, ledger)
    runs = s.client.start("execute", target="sleep", args=[30], session="s")
    wait_running(s.client, "sleep")
    waits = s.client.start("execute", **note(ledger, session="s"))
    wait_queued(s.client, 1)
    os.kill(workers(s.client)[0]["pid"], signal.SIGKILL)
    error = s.client.wait_error(runs)
    assert (error.code, error.executed) == ("session_lost", "maybe")
    error = s.client.wait_error(waits)
    assert (error.code, error.executed) == ("session_lost", "never")
    s.refused("session_lost", s.client.fail("execute", **note(ledger, session="s")))


def scene_session_busy(start: StartDaemon, ledger: Path) -> None:
    s = SessionStage(start, ledger)
    with s.daemon.client() as holder:
        lease = holder.call("checkout", type="session", session="s")["lease"]
        error = s.client.fail("execute", **note(ledger, session="s"))
        holder.call("checkin", lease=lease)
    s.refused("session_busy", error)


def scene_session_full(start: StartDaemon, ledger: Path) -> None:
    """Of session.put; a handler that writes too much has run, and is told so."""
    s = SessionStage(start, ledger, session_max_bytes="1K")
    s.refused("session_full", s.client.fail("session.put", session="s", values={"key": "x" * 2000}))


def scene_denied(start: StartDaemon, ledger: Path) -> None:
    s = Stage(start, ledger, access={"others": {"uid": ["12345"], "role": "use"}}, socket_mode="0666")
    with client_of(s.daemon, ALICE) as alice:
        error = alice.fail("execute", **note(ledger))
    s.refused("denied", error)


SCENES = {name.partition("_")[2]: scene for name, scene in list(globals().items()) if name.startswith("scene_")}


@pytest.mark.parametrize("code", [pytest.param(c, marks=needs_root) if c == "denied" else c for c in SCENES])
def test_never_means_that_no_handler_was_started(start_daemon: StartDaemon, tmp_path: Path, code: str) -> None:
    SCENES[code](start_daemon, tmp_path / "ledger")


def test_each_code_has_a_scene_or_a_reason_why_not() -> None:
    header = (ROOT / "proto" / "errors.h").read_text()
    codes = set(re.findall(r"X\([A-Z_]+, ([a-z_]+), (?:NEVER|MAYBE|YES),", header))
    assert len(codes) > 25
    assert codes == set(SCENES) | RESERVED | RAN
    assert not set(SCENES) & (RESERVED | RAN)


def test_a_call_that_no_worker_has_read_is_run_once_by_another(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Where `worker_died` could have been told as `never`: a stopped worker dies with the call unread in its socket."""
    ledger = tmp_path / "ledger"
    daemon = start_daemon({"default": pool("nasty", 1)})
    with daemon.client() as c:
        victim = workers(c)[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        number = c.start("execute", **note(ledger))
        wait_running(c, "append_line")
        os.kill(victim, signal.SIGKILL)
        assert c.wait(number).error is None
    assert lines(ledger) == ["ran"]
