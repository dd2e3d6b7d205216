"""A fault: what a caller is told when its call failed. The same over the daemon and in a direct lease."""
from __future__ import annotations

from typing import Any, Dict, Optional

from pypool_worker.errors import CallCancelled, DeadlineExceeded
from pypool_worker.failure import Failure
from pypool_worker.registry import Handler

BRIEF = 200


class Fault:
    """Code, message and cause. The message is valid UTF-8."""

    __slots__ = ("code", "message", "cause")

    def __init__(self, code: str, message: str, cause: Optional[Dict[str, Any]] = None) -> None:
        self.code = code
        self.message = message.encode("utf-8", "backslashreplace").decode()
        self.cause = cause

    def as_map(self) -> Dict[str, Any]:
        told: Dict[str, Any] = {"code": self.code, "message": self.message}
        if self.cause is not None:
            told["cause"] = self.cause
        return told

    def brief(self) -> Fault:
        """For a reply that must be small."""
        return Fault(self.code, self.message[:BRIEF])


def raised(exc: BaseException, target: str, handler: Optional[Handler], traceback_max: int) -> Fault:
    """What the handler, or a hook when it is None, raised. Never raises, and takes no reference to the exception."""
    try:
        return _tell(exc, target, handler, traceback_max)
    except BaseException:  # an exception whose own attributes raise, or no memory left to describe it
        return Fault("app_error", "an exception that cannot be described")


def refused(code: str, told: str, handler: Handler) -> Fault:
    """What the handler returned cannot be sent."""
    cause = {"file": handler.file, "line": handler.line} if handler.file is not None else None
    return Fault(code, f"{told}; {handler.brief()}", cause)


def _tell(exc: BaseException, target: str, handler: Optional[Handler], traceback_max: int) -> Fault:
    failure = Failure(exc, traceback_max)
    failure.look_for_hint(exc)
    if isinstance(exc, CallCancelled):
        return Fault("cancelled", f"cancelled in {target}{failure.where(': ')}")
    if isinstance(exc, DeadlineExceeded):
        return Fault("deadline_exceeded", f"deadline exceeded in {target}{failure.where(': ')}")
    if failure.file is None and handler is not None:  # it never came into the handler: wrong arguments
        failure.file, failure.line = handler.file, handler.line
    return Fault("app_error", failure.summary(), failure.as_map())
