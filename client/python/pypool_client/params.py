"""From what Python callers write to what the protocol takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from .errors import ConnectionLost, Executed, PypoolError
from .wire import FRAME_MAX

MS_MAX = 2**31

# A missed deadline is answered by the daemon, which knows more about it; the client's own limit lies behind that.
GRACE = 0.25

HELLO_PATIENCE = 1.0  # at least, for the daemon's first answer


def milliseconds(name: str, seconds: float | None) -> int | None:
    """Raises TypeError or ValueError for what is no time to wait."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be seconds, got {seconds!r}")
    if not 0 < seconds <= MS_MAX / 1000:
        raise ValueError(f"{name} must be more than 0 s and at most {MS_MAX // 1000} s, got {seconds!r}")
    return min(MS_MAX, math.ceil(seconds * 1000))


def without_none(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | dict[str, Any] | None:
    """Raises TypeError for both at once, which the protocol cannot say."""
    if args and kwargs:
        raise TypeError("positional and keyword arguments cannot be mixed in one call")
    return args or kwargs or None


def execute(
    target: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    pool: str | None,
    timeout: float | None,
    queue_timeout: float | None,
    lease: int | None,
    meta: bool,
    idempotent: bool,
    session: str | None = None,
    open: bool = True,
) -> dict[str, Any]:
    return without_none(
        target=target,
        args=arguments(args, kwargs),
        pool=pool,
        lease=lease,
        session=session,
        open=False if session is not None and not open else None,
        timeout_ms=milliseconds("timeout", timeout),
        queue_timeout_ms=milliseconds("queue_timeout", queue_timeout),
        meta=meta or None,
        idempotent=idempotent or None,
    )


def direct(sent: dict[str, Any]) -> dict[str, Any]:
    """What a worker takes of an execute. Raises ValueError for a session, whose values cannot be had there."""
    if "session" in sent:
        raise ValueError("calls under a direct lease have no session")
    kept = {key: sent[key] for key in ("target", "timeout_ms", "meta") if key in sent}
    return {**kept, "args": sent.get("args", ())}  # a worker is fastest when there are some


def checkout(
    pool: str | None, timeout: float | None, ttl: float | None, session: str | None, direct: bool
) -> dict[str, Any]:
    return without_none(
        type="anonymous" if session is None else "session",
        session=session,
        pool=pool,
        timeout_ms=milliseconds("timeout", timeout),
        ttl_ms=milliseconds("ttl", ttl),
        direct=direct or None,
    )


def session_put(
    session: str, pool: str | None, values: Any, open: bool, timeout: float | None, queue_timeout: float | None
) -> dict[str, Any]:
    return without_none(
        session=session,
        pool=pool,
        values=values,
        open=None if open else False,
        timeout_ms=milliseconds("timeout", timeout),
        queue_timeout_ms=milliseconds("queue_timeout", queue_timeout),
    )


def session_delete(
    session: str, pool: str | None, keys: tuple[str, ...], timeout: float | None, queue_timeout: float | None
) -> dict[str, Any]:
    return without_none(
        session=session,
        pool=pool,
        keys=keys,
        timeout_ms=milliseconds("timeout", timeout),
        queue_timeout_ms=milliseconds("queue_timeout", queue_timeout),
    )


def patience(timeout: float | None) -> float | None:
    """How long the client itself waits for an answer that the daemon promised within `timeout` seconds."""
    return None if timeout is None else timeout + GRACE


def overdue(executed: Executed) -> PypoolError:
    if executed == "never":
        return PypoolError("deadline_exceeded", "the request could not be sent to the daemon in time")
    return PypoolError("deadline_exceeded", "the daemon did not answer in time; the call was cancelled", executed)


def lease_fields(answer: Any) -> dict[str, Any]:
    """Raises PypoolError for an answer to checkout that is none."""
    try:
        fields: dict[str, Any] = {key: int(answer[key]) for key in ("worker", "pid", "generation")}
        expires, direct = answer["expires_ms"], answer.get("fds") == 1
        fields["expires_ms"] = None if expires is None else int(expires)
        return {"id": int(answer["lease"]), **fields, "direct": direct}
    except (LookupError, TypeError, ValueError):
        raise PypoolError("bad_reply", f"not a lease: {answer!r:.200}", "maybe") from None


def hello(name: str | None) -> dict[str, Any]:
    return without_none(protocol=1, client=name)


def max_frame(answer: Any) -> int:
    """Of the daemon, from its answer to hello. Raises ConnectionLost."""
    if isinstance(answer, dict) and isinstance(answer.get("max_frame"), int):
        return min(int(answer["max_frame"]), FRAME_MAX)
    raise ConnectionLost("bad_reply", f"the daemon answered hello with {answer!r:.200}")


def refused(error: PypoolError) -> ConnectionLost:
    """Why there is no connection, when hello failed."""
    if isinstance(error, ConnectionLost):
        return error
    return ConnectionLost("cannot_connect", f"the daemon did not agree to protocol 1: {error}")


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """For a checkin at the end of a block: the lease may have ended before, by itself or with the connection."""
    try:
        yield
    except ConnectionLost:
        pass
    except PypoolError as e:
        if e.code not in ("lease_expired", "lease_not_found"):
            raise
