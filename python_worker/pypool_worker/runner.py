"""The runner: takes one call after another and answers each. The only place where handlers run.

Whatever a handler raises becomes its reply. An interrupt can rise only between arm() and disarm(), both inside
a `try` of their own: none reaches the code that packs, reads or writes.
"""
from __future__ import annotations

import time
from typing import Any, Dict, Optional, Tuple

from pypool_worker import context
from pypool_worker.channel import FRAME_MAX, Channel
from pypool_worker.codec import Codec
from pypool_worker.dump import Dump
from pypool_worker.errors import BadRequest, CallCancelled, DeadlineExceeded
from pypool_worker.failure import TRACEBACK_MAX, Failure
from pypool_worker.interrupt import Interrupt
from pypool_worker.misfit import describe_misfit
from pypool_worker.output import flush_output
from pypool_worker.registry import Handler
from pypool_worker.request import Request, Unreadable, unpack_call
from pypool_worker.targets import Targets

BRIEF = 200
LARGE = 1 << 16  # bytes of that length are written from where they are: packing would copy them twice

Reply = Tuple[bytes, ...]  # the parts of one message


class Runner:
    """Serves the call channel until its end."""

    def __init__(self, channel: Channel, codec: Codec, targets: Targets, interrupt: Interrupt, dump: Dump,
                 max_reply: int) -> None:
        self._channel = channel
        self._codec = codec
        self._targets = targets
        self._interrupt = interrupt
        self._dump = dump
        self._max_reply = min(max_reply or FRAME_MAX, FRAME_MAX)
        self._traceback_max = min(TRACEBACK_MAX, max(BRIEF, self._max_reply // 4))

    def serve(self) -> None:
        """Blocks until the channel ends. Raises ProtocolError and OSError when the daemon cannot be served any more."""
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        # A function of its own: nothing of a call stays referenced while the worker waits for the next.
        frame = self._channel.receive()
        if frame is None:
            return False
        try:
            call, fields = unpack_call(self._codec, frame)
        except Unreadable as exc:
            reply = self._pack_error(exc.call, "bad_request", str(exc))
        else:
            del frame  # a large one is not kept beside its arguments
            reply = self._answer(call, fields)
        flush_output()
        self._channel.send(*reply)
        return True

    def _answer(self, call: int, fields: Dict[str, Any]) -> Reply:
        try:
            request = Request(call, fields)
        except BadRequest as exc:
            return self._pack_error(call, "bad_request", str(exc))
        handler = self._targets.find(request.target)
        if handler is None:
            return self._pack_error(call, "unknown_target", self._targets.explain_unknown(request.target))
        token = context.enter(context.Context(call, request.deadline_ns, request.traceparent))
        try:
            return self._run(request, handler)
        finally:
            context.leave(token)

    def _run(self, request: Request, handler: Handler) -> Reply:
        started = time.monotonic_ns()
        try:
            try:
                self._interrupt.arm(request.call)
                value = handler.function(*request.args, **request.kwargs)
            finally:
                self._interrupt.disarm()
        except BaseException as exc:
            self._interrupt.disarm()  # the line above may have been cut short by a signal handler of the user's
            return self._pack_exception(request, handler, exc, _micros_since(started))
        finally:
            self._dump.renew()
        return self._pack_value(request.call, handler, value, _micros_since(started))

    def _pack_value(self, call: int, handler: Handler, value: Any, run_us: int) -> Reply:
        meta = {"run_us": run_us}
        try:
            if type(value) is bytes and LARGE <= len(value) <= self._max_reply:
                reply: Reply = self._codec.pack_around((1, call, None), value, meta)
            else:
                reply = (self._codec.pack([1, call, None, value, meta]),)
        except BaseException as exc:  # packing looks into objects of the user's
            return self._pack_misfit(call, "unserializable", handler, describe_misfit(value, exc), run_us)
        size = sum(map(len, reply))
        if size > self._max_reply:
            told = f"the result takes {size} bytes, and max_reply of the pool allows {self._max_reply}"
            return self._pack_misfit(call, "too_large", handler, told, run_us)
        return reply

    def _pack_misfit(self, call: int, code: str, handler: Handler, told: str, run_us: int) -> Reply:
        cause = {"file": handler.file, "line": handler.line} if handler.file is not None else None
        return self._pack_error(call, code, f"{told}; {handler.brief()}", cause, run_us)

    def _pack_exception(self, request: Request, handler: Handler, exc: BaseException, run_us: int) -> Reply:
        try:
            return self._tell(request, handler, exc, run_us)
        except BaseException:  # an exception whose own attributes raise, or no memory left to describe it
            return self._pack_error(request.call, "app_error", "an exception that cannot be described", None, run_us)

    def _tell(self, request: Request, handler: Handler, exc: BaseException, run_us: int) -> Reply:
        failure = Failure(exc, self._traceback_max)
        failure.look_for_hint(exc)
        if isinstance(exc, CallCancelled):
            told = f"cancelled in {request.target}{failure.where(': ')}"
            return self._pack_error(request.call, "cancelled", told, None, run_us)
        if isinstance(exc, DeadlineExceeded):
            told = f"deadline exceeded in {request.target}{failure.where(': ')}"
            return self._pack_error(request.call, "deadline_exceeded", told, None, run_us)
        if failure.file is None:  # it never came into the handler: wrong arguments
            failure.file, failure.line = handler.file, handler.line
        return self._pack_error(request.call, "app_error", failure.summary(), failure.as_map(), run_us)

    def _pack_error(self, call: int, code: str, message: str, cause: Optional[Dict[str, Any]] = None,
                    run_us: int = 0) -> Reply:
        error: Dict[str, Any] = {"code": code, "message": message.encode("utf-8", "backslashreplace").decode()}
        if cause is not None:
            error["cause"] = cause
        reply = self._codec.pack([1, call, error, None, {"run_us": run_us}])
        if len(reply) <= self._max_reply:
            return (reply,)
        return (self._codec.pack([1, call, {"code": code, "message": message[:BRIEF]}, None, {"run_us": run_us}]),)


def _micros_since(started_ns: int) -> int:
    return (time.monotonic_ns() - started_ns) // 1000
