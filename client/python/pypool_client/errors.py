"""What a call can fail with."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

Executed = Literal["never", "maybe", "yes"]

# an error as a connection without hello has it
_TEXT = re.compile(r"(\w+): (.*) \(executed: (never|maybe|yes)\)", re.DOTALL)


class PypoolError(Exception):
    """A call failed. `executed` decides about repeating it: only after "never" is that safe without knowing more."""

    code: str  # one of the daemon's (docs/protocol.md), or cannot_connect connection_lost bad_reply wrong_process busy
    message: str  # for a person
    executed: Executed  # was the handler started?
    retry_after_ms: int | None  # not worth trying again before
    session: str | None  # the session concerned
    cause: dict[str, Any]  # the post-mortem; empty when there is none
    fields: dict[str, Any]  # the daemon's whole error; empty when it is the client's own

    def __init__(
        self, code: str, message: str, executed: Executed = "never", fields: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code, message, executed, fields)
        self.code = code
        self.message = message
        self.executed = executed
        self.fields = fields or {}
        retry, cause = self.fields.get("retry_after_ms"), self.fields.get("cause")
        self.retry_after_ms = retry if isinstance(retry, int) else None
        session = self.fields.get("session")
        self.session = session if isinstance(session, str) else None
        self.cause = cause if isinstance(cause, dict) else {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message} (executed: {self.executed})"


class ConnectionLost(PypoolError):
    """There is no connection (any more). `executed` is "never" if the request had not wholly left, else "maybe".

    The client stays unusable until its connect() is called again; leases are gone.
    """


def error_from(value: Any) -> PypoolError:
    """The error of a response, which is a map, or text."""
    if isinstance(value, dict):
        executed = value.get("executed")
        known = executed if executed in ("never", "maybe", "yes") else "maybe"
        code, message = str(value.get("code", "internal")), str(value.get("message", value))
        return PypoolError(code, message, cast(Executed, known), value)
    match = _TEXT.fullmatch(str(value))
    if match is None:
        return PypoolError("bad_reply", f"an error that is none: {value!r:.200}", "maybe")
    return PypoolError(match[1], match[2], cast(Executed, match[3]))
