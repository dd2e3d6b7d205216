"""A request: one call as it came over the wire, checked."""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from pypool_worker.codec import Buffer, Codec
from pypool_worker.errors import BadRequest, ProtocolError

EXECUTE, SESSION_CLOSE, DIRECT = METHODS = ("execute", "session_close", "direct")
SESSION_VALUES = ("session", "values")
SESSION_KEY = b"\xa7session"
GLANCE = 1024  # bytes of a frame, within which its session begins


class Request:
    """Who is called with what. `args` and `kwargs` are the handler's to keep."""

    __slots__ = ("call", "target", "args", "kwargs", "deadline_ns", "traceparent")

    def __init__(self, call: int, fields: Dict[str, Any]) -> None:
        """Raises BadRequest."""
        get = fields.get
        self.call = call
        self.target: str = get("target")  # type: ignore[assignment]  # checked in the next line
        self.deadline_ns: Optional[int] = get("deadline_ns")
        self.traceparent: Optional[str] = get("traceparent")
        if type(self.target) is not str:
            raise BadRequest("target must be text")
        if self.deadline_ns is not None and type(self.deadline_ns) is not int:
            raise BadRequest("deadline_ns must be an integer")
        if self.traceparent is not None and type(self.traceparent) is not str:
            raise BadRequest("traceparent must be text")
        self.args, self.kwargs = take_arguments(get("args"))


def take_arguments(args: Any) -> Tuple[List[Any], Dict[str, Any]]:
    """Positional ones and keywords. Raises BadRequest."""
    if type(args) is list:
        return args, {}
    if args is None:
        return [], {}
    if type(args) is not dict:
        raise BadRequest(f"args must be an array (positional) or a map (keywords), not {type(args).__name__}")
    for key in args:
        if type(key) is not str:
            raise BadRequest(f"args: a keyword must be text, not {type(key).__name__}")
    return [], args


class Unreadable(BadRequest):
    """The message is well formed, but Python cannot hold it; its number is known, and `session` if that came first."""

    def __init__(self, call: int, why: str, session: Any = None) -> None:
        super().__init__(why)
        self.call = call
        self.session = session


def unpack_call(codec: Codec, frame: Buffer) -> Tuple[int, str, Dict[str, Any]]:
    """Number, method and fields of a request; the values of its session stay encoded, bytes for each key.

    Raises Unreadable, or ProtocolError for what no daemon of ours sends.
    """
    # Values can be large: they are not decoded only to be thrown away. A small frame is not worth the look.
    apart = len(frame) > GLANCE and SESSION_KEY in bytes(frame[:GLANCE])
    try:
        message = codec.unpack_apart(frame, SESSION_VALUES, {}) if apart else codec.unpack(frame)
    except Exception as exc:
        message = _second_try(codec, frame, exc)
        apart = True
    if type(message) is not list or len(message) != 4 or message[0] != 0 or type(message[1]) is not int:
        raise ProtocolError("a frame that is no request")
    _, call, method, params = message
    if method not in METHODS or type(params) is not list or len(params) != 1 or type(params[0]) is not dict:
        raise Unreadable(call, "the worker takes execute, session_close and direct with one map")
    fields: Dict[str, Any] = params[0]
    if not apart and "session" in fields:
        session = fields["session"]
        if type(session) is dict and "values" in session:
            fields = _second_try(codec, frame, ValueError("values of a session that are no map"))[3][0]
    return call, method, fields


def _second_try(codec: Codec, frame: Buffer, why: Exception) -> Any:
    """It may be the values of the session that Python cannot hold: that is for the handler that asks for them."""
    fields: Dict[str, Any] = {}
    try:
        return codec.unpack_apart(frame, SESSION_VALUES, fields)
    except Exception:
        kind, call = codec.unpack_head(frame)
        if kind != 0 or type(call) is not int:
            raise ProtocolError("a frame that is no request") from None
        raise Unreadable(call, f"the arguments cannot be read: {reason_of(why)}", fields.get("session")) from None


def reason_of(exc: Exception) -> str:
    """Why Python cannot hold a well-formed message."""
    if isinstance(exc, UnicodeDecodeError):
        return "text that is not UTF-8; send it as bin"
    if isinstance(exc, TypeError):
        return "an array or a map as the key of a map"
    return f"{type(exc).__name__}: {exc}" if str(exc) else "nested too deep"
