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
from pypool_worker.channel import FRAME_MAX, LENGTH, BadLength, Channel
from pypool_worker.envelope import SHOWN, is_notification, milliseconds, number_of, open_request, refuse_unknown, text
from pypool_worker.errors import BadRequest, ProtocolError
from pypool_worker.fault import Fault, raised, refused
from pypool_worker.interrupt import WANTED
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
        self._small = min(LARGE, place.max_reply)
        self._codec = place.codec
        self._find = place.targets.find
        self._interrupt = place.interrupt
        self._renew = place.dump.renew
        self._alarm = Alarm(place.interrupt)
        self.calls = 0
        self.errors = 0

    def serve(self) -> None:
        """Blocks until the lease is over or its client breaks the protocol. Never raises."""
        token = context.enter(context.DirectContext(self._call, None, None))
        try:
            self._serve_all()
        except BadLength as exc:
            self._say_goodbye("too_large" if exc.size > FRAME_MAX else "bad_frame", str(exc))
        except (OSError, ProtocolError):
            pass  # the client went away, maybe in the middle of a frame
        finally:
            context.leave(token)

    def _serve_all(self) -> None:
        """Plain calls run in here, with what they need at hand: a name costs less than an attribute, and no function of
        ours is called that can be spared. The rest is looked at closely elsewhere."""
        call, interrupt, page, modules = self._call, self._interrupt, self._interrupt.page, sys.modules
        codec, find, small = self._codec, self._find, self._small
        unpack, channel, write, length, request, handler = codec.unpack_plain, self._channel, os.write, LENGTH.pack, 0, None
        frame: Any
        for frame in channel.frames():
            message: Any = UNREAD
            try:
                message = unpack(frame)
                kind, number, method, (fields,) = message
                args = fields["args"]
                # Identity: false and 0.0 are equal to 0. Where small integers are not shared this only costs time.
                if (kind is request and method == "execute" and len(fields) == 2 and type(args) is list
                        and type(number) is int and number >= 0):
                    handler = find(fields["target"])
            except Exception:
                pass
            if handler is None:
                args = fields = None
                if not self._look_closely(frame, message):
                    return
                frame = message = None
                continue
            frame = message = None  # a large frame is not kept beside its arguments
            # As _answer(), without what a plain call has not.
            self.calls += 1
            begun = False
            try:
                try:
                    interrupt.armed = call
                    if page[WANTED] == call:
                        interrupt.arm(call)
                    begun = True
                    value = handler.function(*args)
                finally:
                    interrupt.armed = 0
            except BaseException as exc:
                interrupt.disarm()  # the line above may have been cut short by a signal handler of the user's
                self._answer_raised(number, handler, fields["target"], exc, begun)
            else:
                reply = None
                try:
                    if type(value) is not bytes or len(value) < LARGE:
                        reply = codec.pack_small((1, number, None, value))
                except BaseException as exc:  # packing looks into objects of the user's
                    self._answer_misfit(number, handler, value, exc)
                else:
                    if reply is None:
                        self._answer_value(number, handler, value, None)
                    elif len(reply) <= small:
                        reply = length(len(reply)) + reply  # as channel.send_small()
                        written = write(channel.fd, reply)
                        if written < len(reply):
                            channel.send_rest(reply, written)
                    else:
                        codec.trim(reply)
                        self._answer_packed(number, handler, (reply,))
            if "asyncio" in modules:
                self._renew()
            # Nothing of a call stays referenced while the worker waits for the next.
            args = fields = value = reply = handler = None

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

    def _look_closely(self, frame: memoryview, message: Any) -> bool:
        """False when nothing can follow."""
        if message is UNREAD:
            try:
                message = self._codec.unpack(frame)
            except Exception:
                return self._refuse(frame)
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

    def _refuse(self, frame: memoryview) -> bool:
        """A frame that cannot be unpacked."""
        try:
            self._codec.check(frame)
            head = list(self._codec.unpack_head(frame))
        except Exception as exc:
            self._say_goodbye("bad_msgpack", f"a frame that is not one well-formed MessagePack value: {exc}")
            return False
        self._say(number_of(head), Fault("bad_request", self._why_unread(frame)), "never")
        return True

    def _why_unread(self, frame: memoryview) -> str:
        try:
            self._codec.unpack(frame)
        except Exception as exc:
            return f"the arguments cannot be read: {reason_of(exc)}"
        return "the arguments cannot be read"

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
