"""The call that runs: what a handler may ask about it."""
from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, MutableMapping, Optional

if TYPE_CHECKING:
    import logging

    CallLog = logging.LoggerAdapter[logging.Logger]

class Context:
    """One call, from dispatch to reply. Handlers get it by `current()`; it stays readable after the call."""

    __slots__ = ("call_id", "deadline", "traceparent", "_log")

    def __init__(self, call_id: int, deadline_ns: Optional[int], traceparent: Optional[str]) -> None:
        self.call_id = call_id
        self.deadline: Optional[float] = None if deadline_ns is None else deadline_ns / 1e9
        self.traceparent = traceparent
        self._log: Optional[CallLog] = None

    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, 0.0 when it has passed, None when the call has none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def log(self) -> CallLog:
        """A logger whose lines go to stderr, which pypoold keeps by call; each begins with the call's number."""
        if self._log is None:
            self._log = _make_log(self.call_id)
        return self._log


_current: ContextVar[Context] = ContextVar("pypool_worker.current")


def current() -> Context:
    """The context of the call that runs here. RuntimeError outside of a call, and in threads that a handler started
    (pass the context to them, or start them with `contextvars.copy_context().run`)."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no call runs here: current() works inside an exposed function, in its own thread") from None


def enter(context: Context) -> Token[Context]:
    """Makes it the current one. For the runner."""
    return _current.set(context)


def leave(token: Token[Context]) -> None:
    _current.reset(token)


def _make_log(call_id: int) -> CallLog:
    import logging  # here: most handlers never log, and the import costs the start of every worker

    class CallAdapter(logging.LoggerAdapter):  # type: ignore[type-arg]  # not generic at run time before 3.11
        def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
            return f"call {call_id}: {msg}", kwargs

    logger = logging.getLogger("pypool_worker.call")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return CallAdapter(logger, {})
