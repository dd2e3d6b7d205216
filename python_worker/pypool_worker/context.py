"""The call that runs: what a handler may ask about it."""
from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, MutableMapping, Optional

from pypool_worker.codec import Codec
from pypool_worker.copies import Copy
from pypool_worker.session import Session

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
    def session(self) -> Session:
        """The values of the session in which the call runs. RuntimeError when it runs in none."""
        raise RuntimeError("this call runs in no session: its caller gave none (execute with the key session)")

    @property
    def log(self) -> CallLog:
        """A logger whose lines go to stderr, which pypoold keeps by call; each begins with the call's number."""
        if self._log is None:
            self._log = _make_log(self.call_id)
        return self._log


class SessionContext(Context):
    """Of a call that runs in a session. Handlers that do not ask for the session's values cost nothing of them."""

    __slots__ = ("_copy", "_codec", "_session")

    def __init__(self, call_id: int, deadline_ns: Optional[int], traceparent: Optional[str], copy: Copy, codec: Codec,
                 session: Optional[Session] = None) -> None:
        Context.__init__(self, call_id, deadline_ns, traceparent)
        self._copy = copy
        self._codec = codec
        self._session = session

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = Session(self._copy, self._codec)
        return self._session

    def touched(self) -> Optional[Session]:
        """The session if the handler has asked for it. For the runner."""
        return self._session

    def end(self) -> None:
        """The call is over: for the runner."""
        if self._session is not None:
            self._session.close()


class DirectContext(Context):
    """Of a call in a direct lease."""

    __slots__ = ()

    @property
    def session(self) -> Session:
        raise RuntimeError("session values are not to be had in direct calls: they live in the daemon, which takes no "
                           "part in these")


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
