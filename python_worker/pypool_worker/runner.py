"""The runner: takes one call after another and answers each. Handlers run here, and in direct.py in the same way.

Whatever a handler raises becomes its reply. An interrupt can rise only between arm() and disarm(), both inside
a `try` of their own: none reaches the code that packs, reads or writes.
"""
from __future__ import annotations

import time
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

from pypool_worker import context
from pypool_worker.channel import Channel
from pypool_worker.closing import Hooks, closing_session, run_close_hooks
from pypool_worker.context import SessionContext
from pypool_worker.copies import Copies, MissingCopy
from pypool_worker.direct import Direct
from pypool_worker.errors import BadRequest, CallCancelled, DeadlineExceeded
from pypool_worker.fault import Fault, raised, refused
from pypool_worker.handover import Handover
from pypool_worker.misfit import describe_misfit
from pypool_worker.output import flush_output
from pypool_worker.place import LARGE, Place
from pypool_worker.registry import Handler
from pypool_worker.request import EXECUTE, SESSION_CLOSE, Request, Unreadable, unpack_call
from pypool_worker.session import Session, SessionMisfit

Reply = Tuple[bytes, ...]  # the parts of one message


class Runner:
    """Serves the call channel until its end."""

    def __init__(self, channel: Channel, place: Place, copies: Copies, close_hooks: Hooks, handover: Handover) -> None:
        self._channel = channel
        self._place = place
        self._codec = place.codec
        self._targets = place.targets
        self._interrupt = place.interrupt
        self._dump = place.dump
        self._copies = copies
        self._close_hooks = close_hooks
        self._handover = handover
        self._max_reply = place.max_reply
        self._traceback_max = place.traceback_max
        self._keep: Optional[Callable[[], None]] = None  # what the call has written, when it is answered

    def serve(self) -> None:
        """Blocks until the channel ends. Raises ProtocolError and OSError when the daemon cannot be served any more.

        Can be called again for another channel: nothing is kept of a call whose reply was not written.
        """
        self._keep = None
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        # A function of its own: nothing of a call stays referenced while the worker waits for the next.
        frame = self._channel.receive()
        if frame is None:
            return False
        try:
            call, method, fields = unpack_call(self._codec, frame)
        except Unreadable as exc:
            self._keep_session_of(exc)
            reply = self._pack_fault(exc.call, Fault("bad_request", str(exc)))
        else:
            del frame  # a large one is not kept beside its arguments
            if method == EXECUTE:
                reply = self._answer(call, fields)
            else:
                reply = (self._close_session if method == SESSION_CLOSE else self._serve_directly)(call, fields)
        flush_output()
        self._channel.send(*reply)
        if self._keep is not None:
            self._keep()
            self._keep = None
        return True

    def _answer(self, call: int, fields: Dict[str, Any]) -> Reply:
        copy = None
        try:
            if "session" in fields:
                copy = self._copies.take(fields["session"])
            request = Request(call, fields)
        except BadRequest as exc:
            return self._pack_fault(call, Fault("bad_request", str(exc)))
        except MissingCopy as exc:
            return self._pack_fault(call, Fault("internal", str(exc)))
        handler = self._targets.find(request.target)
        if handler is None:
            return self._pack_fault(call, Fault("unknown_target", self._targets.explain_unknown(request.target)))
        if copy is not None:
            return self._answer_in_session(
                request, handler, SessionContext(call, request.deadline_ns, request.traceparent, copy, self._codec))
        token = context.enter(context.Context(call, request.deadline_ns, request.traceparent))
        try:
            return self._run(request, handler)
        finally:
            context.leave(token)

    def _answer_in_session(self, request: Request, handler: Handler, ctx: SessionContext) -> Reply:
        token = context.enter(ctx)
        try:
            return self._run(request, handler, ctx)
        finally:
            context.leave(token)
            ctx.end()

    def _run(self, request: Request, handler: Handler, ctx: Optional[SessionContext] = None) -> Reply:
        started = time.monotonic_ns()
        try:
            try:
                self._interrupt.arm(request.call)
                value = handler.function(*request.args, **request.kwargs)
            finally:
                self._interrupt.disarm()
        except BaseException as exc:
            self._interrupt.disarm()  # the line above may have been cut short by a signal handler of the user's
            run_us = _micros_since(started)
            return self._pack_fault(request.call, raised(exc, request.target, handler, self._traceback_max), run_us)
        finally:
            self._dump.renew()
        run_us = _micros_since(started)
        session = ctx.touched() if ctx is not None else None
        if session is not None:
            return self._pack_with_changes(request.call, handler, value, run_us, session)
        return self._pack_value(request.call, handler, value, run_us)

    def _pack_value(self, call: int, handler: Handler, value: Any, run_us: int) -> Reply:
        meta = {"run_us": run_us}
        try:
            if type(value) is bytes and LARGE <= len(value) <= self._max_reply:
                reply: Reply = self._codec.pack_around((1, call, None), value, (meta,))
            else:
                reply = (self._codec.pack([1, call, None, value, meta]),)
        except BaseException as exc:  # packing looks into objects of the user's
            return self._pack_fault(call, refused("unserializable", describe_misfit(value, exc), handler), run_us)
        size = sum(map(len, reply))
        if size > self._max_reply:
            told = f"the result takes {self._over(size)}"
            return self._pack_fault(call, refused("too_large", told, handler), run_us)
        return reply

    def _pack_with_changes(self, call: int, handler: Handler, value: Any, run_us: int, session: Session) -> Reply:
        """Of a call that has asked for its session: what it wrote goes along, and is kept if the reply is sent."""
        try:
            changed, deleted = session.changes()
        except SessionMisfit as exc:
            return self._pack_fault(call, refused("unserializable", str(exc), handler), run_us)
        if not changed and not deleted:
            return self._pack_value(call, handler, value, run_us)
        written = {}
        if changed:
            written["set"] = self._codec.pack_raw_map(changed)
        if deleted:
            written["del"] = self._codec.pack(deleted)
        meta = self._codec.pack_raw_map({"run_us": self._codec.pack(run_us),
                                         "session": self._codec.pack_raw_map(written)})
        try:
            reply = self._codec.pack_before((1, call, None), value, meta)
        except BaseException as exc:
            return self._pack_fault(call, refused("unserializable", describe_misfit(value, exc), handler), run_us)
        size = sum(map(len, reply))
        if size > self._max_reply:
            told = f"the result and what goes into session {session.name!r} take {self._over(size)}"
            return self._pack_fault(call, refused("too_large", told, handler), run_us)
        self._keep = partial(session.keep, changed, deleted)
        return reply

    def _close_session(self, call: int, fields: Dict[str, Any]) -> Reply:
        started = time.monotonic_ns()
        told = fields.get("session")
        try:
            copy = self._copies.take(told)
        except BadRequest as exc:
            return self._pack_fault(call, Fault("bad_request", str(exc)))
        except MissingCopy as exc:
            return self._pack_fault(call, Fault("internal", str(exc)))
        self._copies.drop(told)
        ctx = SessionContext(call, None, None, copy, self._codec, closing_session(copy, self._codec))
        token = context.enter(ctx)
        try:
            try:
                self._interrupt.arm(call)
                run_close_hooks(self._close_hooks, ctx.session, (CallCancelled, DeadlineExceeded))
            finally:
                self._interrupt.disarm()
        except BaseException as exc:
            self._interrupt.disarm()
            fault = raised(exc, "a hook of on_session_close", None, self._traceback_max)
            return self._pack_fault(call, fault, _micros_since(started))
        finally:
            self._dump.renew()
            context.leave(token)
        return (self._codec.pack([1, call, None, None, {"run_us": _micros_since(started)}]),)

    def _serve_directly(self, call: int, fields: Dict[str, Any]) -> Reply:
        """Blocks until the lease is over."""
        lease = fields.get("lease")
        if type(lease) is not int:
            return self._pack_fault(call, Fault("bad_request", "direct needs lease, an integer"))
        channel = self._handover.take(lease)
        started = time.monotonic_ns()
        try:
            direct = Direct(self._place, channel, call)
            direct.serve()
        finally:
            self._handover.close()
        told = {"calls": direct.calls, "errors": direct.errors}
        return (self._codec.pack([1, call, None, told, {"run_us": _micros_since(started)}]),)

    def _keep_session_of(self, unreadable: Unreadable) -> None:
        """The daemon counts what it has sent as held here, also when the rest of the call was no good."""
        if unreadable.session is not None:
            try:
                self._copies.take(unreadable.session)
            except (BadRequest, MissingCopy):
                pass  # told by the next call, if there is one

    def _pack_fault(self, call: int, fault: Fault, run_us: int = 0) -> Reply:
        meta = {"run_us": run_us}
        reply = self._codec.pack([1, call, fault.as_map(), None, meta])
        if len(reply) > self._max_reply:
            reply = self._codec.pack([1, call, fault.brief().as_map(), None, meta])
        return (reply,)

    def _over(self, size: int) -> str:
        return f"{size} bytes, and max_reply of the pool allows {self._max_reply}"


def _micros_since(started_ns: int) -> int:
    return (time.monotonic_ns() - started_ns) // 1000
