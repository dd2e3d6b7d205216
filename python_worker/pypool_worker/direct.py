"""A direct lease: one client calls this worker over a socket of its own, with nobody in between.

The messages are those of docs/protocol.md, length-prefixed, with execute and ping. The calls run one after the other,
in the order in which they come. Here the costs of one call count: what is the same for all of a lease is done once.
"""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from pypool_worker import context
from pypool_worker.alarm import Alarm
from pypool_worker.channel import FRAME_MAX, HEADER, LENGTH, BadLength, Channel
from pypool_worker.envelope import REQUEST, SHOWN, is_notification, milliseconds, number_of, open_request, refuse_unknown, text
from pypool_worker.errors import BadRequest, ProtocolError
from pypool_worker.fault import Fault, raised, refused
from pypool_worker.form import HEAD, HEAD_REQUEST, HEAD_RESPONSE, ID, ID_END, Form, NoForm
from pypool_worker.interrupt import WANTED
from pypool_worker.misfit import describe_misfit
from pypool_worker.place import LARGE, Place
from pypool_worker.registry import Handler
from pypool_worker.request import reason_of, take_arguments

MS = 1_000_000  # ns
METHODS = "execute, ping"
KEYS = ("target", "args", "timeout_ms", "traceparent", "meta")
UNREAD = object()
HEAD_MAX = 11  # bytes of a reply: what stands before its error
Plain = Tuple[bytes, str, Handler, List[Any]]  # id as it is packed, target, its handler, arguments


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
        self._small = min(LARGE, place.max_reply) - HEAD_MAX
        self._codec = place.codec
        self._find = place.targets.find
        self._interrupt = place.interrupt
        self._renew = place.dump.renew
        self._alarm = Alarm(place.interrupt)
        self._form: Form = NoForm()
        self._last = ""  # target of a plain call
        self._over = False
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
        ours is called that can be spared. One of a known form need not even be unpacked but for its arguments. The rest
        is looked at closely elsewhere."""
        call, interrupt, page, modules = self._call, self._interrupt, self._interrupt.page, sys.modules
        codec, small, channel, form = self._codec, self._small, self._channel, self._form
        unpack, write, length, head_at = codec.unpack_plain, os.write, LENGTH.pack, HEAD.unpack_from
        buffer, view, starts, begin, end, handler = channel.buffer, channel.view, channel.buffer.startswith, 0, 0, None
        number: Union[bytes, bytearray]
        frame: Any
        while True:
            if begin == end:
                begin, end = 0, channel.fill()
                if not end:
                    return
            size, head, first = head_at(buffer, begin)
            body = begin + HEADER
            rest = body + size
            if body < rest <= end:
                if not begin:
                    channel.filled_ns = 0 if rest == end else time.monotonic_ns()
                begin = rest
                behind = body + ID_END[first]
                if head == HEAD_REQUEST and starts(form.packed, behind):
                    try:
                        args = unpack(view[behind + form.size:rest])
                        if type(args) is list:
                            number, target, handler = buffer[body + ID:behind], form.target, form.handler
                    except Exception:
                        pass
                frame = None if handler is not None else view[body:rest]
            else:
                frame, begin, end = channel.receive_rest(begin, end)
            if handler is None:
                plain = self._open_plain(frame)
                args = frame = None  # a large one is not kept beside its arguments
                if plain is None:
                    if self._over:
                        return
                    continue
                number, target, handler, args = plain
                form, plain = self._form, None
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
                self._answer_raised(unpack(number), handler, target, exc, begun)
            else:
                reply = None
                try:
                    if type(value) is not bytes or len(value) < LARGE:
                        reply = codec.pack_small((None, value))
                except BaseException as exc:  # packing looks into objects of the user's
                    self._answer_misfit(unpack(number), handler, value, exc)
                else:
                    if reply is None:
                        self._answer_value(unpack(number), handler, value, None)
                    elif len(reply) <= small:
                        reply = length(len(number) + 1 + len(reply)) + HEAD_RESPONSE + number + reply[1:]
                        written = write(channel.fd, reply)  # as channel.send_small()
                        if written < len(reply):
                            channel.send_rest(reply, written)
                    else:
                        codec.trim(reply)
                        self._answer_large(unpack(number), handler, reply)
            if "asyncio" in modules:
                self._renew()
            # Nothing of a call stays referenced while the worker waits for the next.
            args = value = reply = handler = None

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

    def _answer_large(self, number: int, handler: Handler, packed: bytes) -> None:
        """`packed`: an array of no error and the value."""
        head = HEAD_RESPONSE + self._codec.pack_small(number)  # anew: it may have come longer than it needs to be
        self._answer_packed(number, handler, (head, memoryview(packed)[1:]))

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

    def _open_plain(self, frame: memoryview) -> Optional[Plain]:
        """None: it was none, and has been answered."""
        message: Any = UNREAD
        try:
            message = self._codec.unpack_plain(frame)
            kind, number, method, (fields,) = message
            target, args = fields["target"], fields["args"]
            # By type: false and 0.0 are equal to 0.
            if (type(kind) is int and kind == REQUEST and method == "execute" and len(fields) == 2 and type(args) is list
                    and type(number) is int and number >= 0):
                handler = self._find(target)
                if handler is not None:
                    self._learn(target, handler)
                    return self._codec.pack_small(number), target, handler, args
        except Exception:
            pass
        self._look_closely(frame, message)
        return None

    def _learn(self, target: str, handler: Handler) -> None:
        """The form of what comes twice running is known from then on."""
        if target == self._last and target != self._form.target:
            self._form = Form(self._codec, target, handler)
        self._last = target

    # What is not a plain call

    def _look_closely(self, frame: memoryview, message: Any) -> None:
        if message is UNREAD:
            try:
                message = self._codec.unpack(frame)
            except Exception:
                self._refuse(frame)
                return
        if is_notification(message):
            return  # ignored, whatever it says
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

    def _refuse(self, frame: memoryview) -> None:
        """A frame that cannot be unpacked."""
        try:
            self._codec.check(frame)
            head = list(self._codec.unpack_head(frame))
        except Exception as exc:
            self._over = True
            self._say_goodbye("bad_msgpack", f"a frame that is not one well-formed MessagePack value: {exc}")
            return
        self._say(number_of(head), Fault("bad_request", self._why_unread(frame)), "never")

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
