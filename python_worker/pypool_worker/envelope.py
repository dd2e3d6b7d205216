"""The envelope of what a client sends, as docs/protocol.md has it, where no daemon opens it: in direct leases."""
from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

from pypool_worker.errors import BadRequest

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
ID_MAX = (1 << 64) - 1
NAME_MAX = 255
MS_MAX = 1 << 31
SHOWN = 80


def is_notification(message: Any) -> bool:
    return type(message) is list and bool(message) and type(message[0]) is int and message[0] == NOTIFICATION


def number_of(message: Any) -> Optional[int]:
    """The id, where there is one in its place."""
    if type(message) is list and len(message) > 1 and type(message[1]) is int and 0 <= message[1] <= ID_MAX:
        return int(message[1])
    return None


def open_request(message: Any) -> Tuple[str, Dict[str, Any]]:
    """Method and params. Both may have names that are bin. Raises BadRequest."""
    if type(message) is not list or not message or type(message[0]) is not int or not 0 <= message[0] <= NOTIFICATION:
        raise BadRequest("a message is an array that begins with 0, 1 or 2")
    if message[0] == RESPONSE:
        raise BadRequest("a response, but nothing is asked of clients here")
    if len(message) != 4:
        raise BadRequest(f"a request is [0, id, method, [params]]: 4 elements, got {len(message)}")
    if number_of(message) is None:
        raise BadRequest("id must be an integer from 0 to 2^64-1")
    return _name(message[2], "method"), {_name(key, "a key"): value for key, value in _params(message[3]).items()}


def refuse_unknown(fields: Dict[str, Any], known: Sequence[str], what: str) -> None:
    """Raises BadRequest when there is another key than those."""
    for key in fields:
        if key not in known:
            raise BadRequest(f"{what} takes no key {key[:SHOWN]!r}; there are: {', '.join(known) or 'none'}")


def text(value: Any, key: str) -> str:
    """Raises BadRequest."""
    name = _name(value, key)
    if not 0 < len(name.encode()) <= NAME_MAX:
        raise BadRequest(f"{key} must be text of 1 to {NAME_MAX} bytes")
    return name


def milliseconds(value: Any, key: str) -> int:
    """Raises BadRequest."""
    if type(value) is not int or not 1 <= value <= MS_MAX:
        raise BadRequest(f"{key} must be an integer from 1 to {MS_MAX}")
    return value


def _params(params: Any) -> Dict[Any, Any]:
    if type(params) is list and len(params) == 1:
        params = params[0]
        if type(params) is dict:
            return params
    if params is None or params == []:
        return {}
    raise BadRequest("params must be an array that holds one map")


def _name(value: Any, what: str) -> str:
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    if type(value) is not str:
        raise BadRequest(f"{what} must be text")
    return value
