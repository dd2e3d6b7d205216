"""A request: one call as it came over the wire, checked."""
from __future__ import annotations

from typing import Any, Dict, List, Optional

from pypool_worker.codec import Buffer, Codec
from pypool_worker.errors import BadRequest, ProtocolError


class Request:
    """Who is called with what. `args` and `kwargs` are the handler's to keep."""

    __slots__ = ("call", "target", "args", "kwargs", "deadline_ns", "traceparent")

    def __init__(self, call: int, fields: Dict[str, Any]) -> None:
        """Raises BadRequest."""
        self.call = call
        self.target: str = _field(fields, "target", str)
        self.deadline_ns: Optional[int] = None
        self.traceparent: Optional[str] = None
        if fields.get("deadline_ns") is not None:
            self.deadline_ns = _field(fields, "deadline_ns", int)
        if fields.get("traceparent") is not None:
            self.traceparent = _field(fields, "traceparent", str)
        self.args: List[Any] = []
        self.kwargs: Dict[str, Any] = {}
        self._take_arguments(fields.get("args"))

    def _take_arguments(self, args: Any) -> None:
        if type(args) is list:
            self.args = args
        elif type(args) is dict:
            for key in args:
                if type(key) is not str:
                    raise BadRequest(f"args: a keyword must be text, not {type(key).__name__}")
            self.kwargs = args
        elif args is not None:
            raise BadRequest(f"args must be an array (positional) or a map (keywords), not {type(args).__name__}")


class Unreadable(BadRequest):
    """The message is well formed, but Python cannot hold it; the call number is known."""

    def __init__(self, call: int, why: str) -> None:
        super().__init__(why)
        self.call = call


def unpack_call(codec: Codec, frame: Buffer) -> List[Any]:
    """`[call, fields]` of a request. Raises Unreadable, or ProtocolError for what no daemon of ours sends."""
    try:
        message = codec.unpack(frame)
    except Exception as exc:
        kind, call = codec.unpack_head(frame)
        if kind != 0 or type(call) is not int:
            raise ProtocolError("a frame that is no request") from None
        raise Unreadable(call, f"the arguments cannot be read: {_reason(exc)}") from None
    if type(message) is not list or len(message) != 4 or message[0] != 0 or type(message[1]) is not int:
        raise ProtocolError("a frame that is no request")
    _, call, method, params = message
    if method != "execute" or type(params) is not list or len(params) != 1 or type(params[0]) is not dict:
        raise Unreadable(call, "the worker takes execute with one map")
    return [call, params[0]]


def _field(fields: Dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind:
        raise BadRequest(f"{name} must be {'text' if kind is str else 'an integer'}")
    return value


def _reason(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "text that is not UTF-8; send it as bin"
    if isinstance(exc, TypeError):
        return "an array or a map as the key of a map"
    return f"{type(exc).__name__}: {exc}" if str(exc) else "nested too deep"
