"""A direct lease: one client calls this worker over a socket of its own, with nobody in between.

The messages are those of docs/protocol.md, length-prefixed, with execute and ping. The calls run one after the other,
in the order in which they come. Here the costs of one call count: what is the same for all of a lease is done once.
"""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Dict, Optional, Tuple

from pypool_worker import context
from pypool_worker.alarm import Alarm
from pypool_worker.channel import FRAME_MAX, BadLength, Channel
from pypool_worker.envelope import SHOWN, is_notification, milliseconds, number_of, open_request, refuse_unknown, text
from pypool_worker.errors import BadRequest, ProtocolError
from pypool_worker.fault import Fault, raised, refused
from pypool_worker.misfit import describe_misfit
from pypool_worker.place import LARGE, Place
from pypool_worker.registry import Handler
from pypool_worker.request import reason_of, take_arguments

MS = 1_000_000  # ns
METHODS = "execute, ping"
KEYS = ("target", "args", "timeout_ms", "traceparent", "meta")
UNREAD = object()


class Execute:
    """The params of an execute that is not a plain one."""

    __slots__ = ("target", "args", "kwargs", "timeout_ms", "traceparent", "meta")

    def __init__(self, fields: Dict[str, Any]) -> None:
        """Raises BadRequest."""
        refuse_unknown(fields, KEYS, "execute in a direct lease")
        self.target = text(fields.get("target"), "target")
        self.args, self.kwargs = take_arguments(fields.get("args"))
        self.timeout_ms = 0
        if "timeout_ms" in fields:
            self.timeout_ms = milliseconds(fields["timeout_ms"], "timeout_ms")
        self.traceparent: Optional[str] = None
        if "traceparent" in fields:
            self.traceparent = text(fields["traceparent"], "traceparent")
        self.meta = fields.get("meta", False)
        if type(self.meta) is not bool:
            raise BadRequest("meta must be true or false")


class Direct:
    """The calls of one lease. `calls` counts the executes that were answered, `errors` those of them that failed."""

    def __init__(self, place: Place, channel: Channel, call: int) -> None:
        """`call`: the number of the call "direct", for which the daemon may interrupt what runs here."""
        self._place = place
        self._channel = channel
        self._call = call
        self._receive = channel.receive
        self._send_small = channel.send_small
        self._small = min(LARGE, place.max_reply)
        self._codec = place.codec
        self._unpack = place.codec.unpack
        self._find = place.targets.find
        self._interrupt = place.interrupt
        self._modules = sys.modules
        self._renew = place.dump.renew
        self._alarm = Alarm(place.interrupt)
        self.calls = 0
        self.errors = 0

    def serve(self) -> None:
        """Blocks until the lease is over or its client breaks the protocol. Never raises."""
        token = context.enter(context.DirectContext(self._call, None, None))
        try:
            while self._serve_one():
                pass
        except BadLength as exc:
            self._say_goodbye("too_large" if exc.size > FRAME_MAX else "bad_frame", str(exc))
        except (OSError, ProtocolError):
            pass  # the client went away, maybe in the middle of a frame
        finally:
            context.leave(token)

    def _serve_one(self) -> bool:
        # A function of its own: nothing of a call stays referenced while the worker waits for the next.
        frame = self._receive()
        if frame is None:
            return False
        message: Any = UNREAD
        try:
            message = self._unpack(frame)
            kind, number, method, (fields,) = message
            args = fields["args"]
            handler = self._find(fields["target"])
            plain = (kind == 0 and method == "execute" and len(fields) == 2 and type(args) is list
                     and type(kind) is type(number) is int and number >= 0)
        except Exception as exc:
            return self._look_closely(message) if message is not UNREAD else self._refuse(frame, exc)
        del frame  # a large one is not kept beside its arguments
        if not plain or handler is None:
            return self._look_closely(message)
        # As _answer(), without what a plain call has not.
        self.calls += 1
        interrupt, begun = self._interrupt, False
        try:
            try:
                interrupt.arm(self._call)
                begun = True
                value = handler.function(*args)
            finally:
                interrupt.armed = 0
        except BaseException as exc:
            interrupt.disarm()  # the line above may have been cut short by a signal handler of the user's
            self._answer_raised(number, handler, fields["target"], exc, begun)
            return True
        finally:
            if "asyncio" in self._modules:
                self._renew()
        try:
            if type(value) is bytes and len(value) >= LARGE:
                self._answer_value(number, handler, value, None)
                return True
            reply = self._codec.pack_small((1, number, None, value))
        except BaseException as exc:  # packing looks into objects of the user's
            self._answer_misfit(number, handler, value, exc)
            return True
        if len(reply) <= self._small:
            self._send_small(reply)
        else:
            self._codec.trim(reply)
            self._answer_packed(number, handler, (reply,))
        return True

    def _answer(self, number: int, handler: Handler, call: Execute, deadline_ns: int) -> None:
        self.calls += 1
        interrupt, begun, started_ns = self._interrupt, False, time.monotonic_ns()
        try:
            try:
                interrupt.arm(self._call)
                if deadline_ns:
                    self._alarm.start(deadline_ns)
                begun = True
                value = handler.function(*call.args, **call.kwargs)
            finally:
                interrupt.disarm()
        except BaseException as exc:
            interrupt.disarm()
            self._answer_raised(number, handler, call.target, exc, begun)
            return
        finally:
            self._renew()
        self._answer_value(number, handler, value, self._meta(started_ns) if call.meta else None)

    def _answer_value(self, number: int, handler: Handler, value: Any, meta: Optional[Dict[str, Any]]) -> None:
        try:
            if meta is not None:
                reply: Tuple[bytes, ...] = (self._codec.pack((1, number, None, {"value": value, "meta": meta})),)
            elif type(value) is bytes and LARGE <= len(value) <= self._place.max_reply:
                reply = self._codec.pack_around((1, number, None), value, ())
            else:
                reply = (self._codec.pack((1, number, None, value)),)
        except BaseException as exc:
            self._answer_misfit(number, handler, value, exc)
            return
        self._answer_packed(number, handler, reply)

    def _answer_packed(self, number: int, handler: Handler, reply: Tuple[bytes, ...]) -> None:
        size, max_reply = sum(map(len, reply)), self._place.max_reply
        if size > max_reply:
            told = f"the result takes {size} bytes, and max_reply of the pool allows {max_reply}"
            self._answer_fault(number, refused("too_large", told, handler), "yes")
            return
        self._channel.send(*reply)

    def _answer_misfit(self, number: int, handler: Handler, value: Any, exc: BaseException) -> None:
        self._answer_fault(number, refused("unserializable", describe_misfit(value, exc), handler), "yes")

    def _answer_raised(self, number: int, handler: Handler, target: str, exc: BaseException, begun: bool) -> None:
        fault = raised(exc, target, handler, self._place.traceback_max)
        self._answer_fault(number, fault, "yes" if begun else "never")

    def _answer_fault(self, number: int, fault: Fault, executed: str) -> None:
        """Of an execute: one that counts."""
        self.errors += 1
        self._say(number, fault, executed)

    def _meta(self, started_ns: int) -> Dict[str, Any]:
        now = time.monotonic_ns()
        read_ns = self._channel.filled_ns or started_ns
        return {"worker": self._place.worker, "pid": os.getpid(), "generation": self._place.generation,
                "queue_us": max(0, started_ns - read_ns) // 1000, "run_us": (now - started_ns) // 1000, "attempts": 1}

    # What is not a plain call

    def _look_closely(self, message: Any) -> bool:
        if is_notification(message):
            return True  # ignored, whatever it says
        number = number_of(message)
        try:
            method, fields = open_request(message)
            if method == "execute":
                self._execute(number, fields)
            elif method == "ping":
                refuse_unknown(fields, (), "ping")
                self._channel.send(self._codec.pack((1, number, None, "pong")))
            else:
                told = f"no method {method[:SHOWN]!r} in a direct lease; there are: {METHODS}"
                self._say(number, Fault("unknown_method", told), "never")
        except BadRequest as exc:
            self._say(number, Fault("bad_request", str(exc)), "never")
        return True

    def _execute(self, number: Any, fields: Dict[str, Any]) -> None:
        try:
            call = Execute(fields)
        except BadRequest as exc:
            self._answer_refused(number, Fault("bad_request", str(exc)))
            return
        handler = self._find(call.target)
        if handler is None:
            told = self._place.targets.explain_unknown(call.target)
            self._answer_refused(number, Fault("unknown_target", told))
            return
        deadline_ns = 0
        if call.timeout_ms:
            deadline_ns = (self._channel.filled_ns or time.monotonic_ns()) + call.timeout_ms * MS
        token = context.enter(context.DirectContext(self._call, deadline_ns or None, call.traceparent))
        if deadline_ns:
            self._alarm.take()
        try:
            self._answer(number, handler, call, deadline_ns)
        finally:
            if deadline_ns:
                self._alarm.give_back()
            context.leave(token)

    def _answer_refused(self, number: int, fault: Fault) -> None:
        self.calls += 1
        self._answer_fault(number, fault, "never")

    def _refuse(self, frame: memoryview, why: Exception) -> bool:
        """A frame that cannot be unpacked. False: and so nothing that may come after it."""
        try:
            self._codec.check(frame)
            head = list(self._codec.unpack_head(frame))
        except Exception as exc:
            self._say_goodbye("bad_msgpack", f"a frame that is not one well-formed MessagePack value: {exc}")
            return False
        self._say(number_of(head), Fault("bad_request", f"the arguments cannot be read: {reason_of(why)}"), "never")
        return True

    def _say_goodbye(self, code: str, message: str) -> None:
        try:
            self._say(None, Fault(code, message), "never")
        except OSError:
            pass

    def _say(self, number: Optional[int], fault: Fault, executed: str) -> None:
        worker = self._place.worker
        reply = self._codec.pack((1, number, _error(fault, executed, worker), None))
        if len(reply) > self._place.max_reply:
            reply = self._codec.pack((1, number, _error(fault.brief(), executed, worker), None))
        self._channel.send(reply)


def _error(fault: Fault, executed: str, worker: int) -> Dict[str, Any]:
    told = {"code": fault.code, "message": fault.message, "executed": executed, "worker": worker}
    if fault.cause is not None:
        told["cause"] = fault.cause
    return told
