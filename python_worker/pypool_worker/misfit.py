"""A misfit: the place in a result where something stands that MessagePack cannot carry, and what to do about it."""
from __future__ import annotations

from typing import Any, List, Optional, Tuple

MESSAGE_DEPTH_MAX = 511  # what msgpack's packer manages
DEPTH_MAX = MESSAGE_DEPTH_MAX - 1  # less the message around the value
RESULT = "result"
VISITED_MAX = 1_000_000
KEY_MAX = 60
PATH_MAX = 120

_HINTS = {
    "set": "return sorted(...) or list(...)",
    "frozenset": "return sorted(...) or list(...)",
    "complex": "return [z.real, z.imag]",
    "generator": "return list(...)",
    "datetime.datetime": "call .isoformat() or .timestamp()",
    "datetime.date": "call .isoformat()",
    "datetime.time": "call .isoformat()",
    "datetime.timedelta": "call .total_seconds()",
    "decimal.Decimal": "call str() or float()",
    "uuid.UUID": "call str()",
}

Path = Optional[Tuple[Any, Any]]  # (path of the container, key in it): shares its beginning with its neighbours


def describe_misfit(value: Any, error: BaseException, root: str = RESULT, depth_max: int = DEPTH_MAX) -> str:
    """Why packing `value` raised `error`, in one sentence that names the place, from `root` on. Never raises."""
    try:
        found = _find(value, root, depth_max)
    except BaseException:
        found = None
    if found and root != RESULT:
        found = found.replace("; return ", "; store ")
    whole = "the result" if root == RESULT else root
    return found or f"{whole} cannot be encoded: {type(error).__name__}: {_short(error, KEY_MAX * 4)}"


def _find(value: Any, root: str, depth_max: int) -> Optional[str]:
    waiting: List[Tuple[Any, Path, int]] = [(value, None, 0)]
    visited = 0
    while waiting and visited < VISITED_MAX:
        item, path, depth = waiting.pop()
        visited += 1
        if isinstance(item, (list, tuple, dict)) and not _is_msgpack_own(item):
            if depth > depth_max:
                whole = "the result" if root == RESULT else "it"
                return f"{_spoken(root, path)} is nested deeper than {depth_max} levels, or {whole} contains itself"
            waiting.extend(_children(item, path, depth + 1))
            continue
        reason = _reason(item)
        if reason is not None:
            return f"{_spoken(root, path)} {reason}"
    return None


def _children(container: Any, path: Path, depth: int) -> List[Tuple[Any, Path, int]]:
    if not isinstance(container, dict):
        return [(item, (path, index), depth) for index, item in reversed(list(enumerate(container)))]
    found: List[Tuple[Any, Path, int]] = []
    for key, item in reversed(list(container.items())):
        found.append((item, (path, key), depth))
        found.append((key, (path, _Key(key)), depth))
    return found


class _Key:
    """Marks the last step of a path as the key itself, not what stands under it."""

    def __init__(self, key: Any) -> None:
        self.key = key


def _is_msgpack_own(item: Any) -> bool:
    """ExtType (a tuple) and Timestamp."""
    return type(item).__module__.startswith("msgpack")


def _reason(item: Any) -> Optional[str]:
    if item is None or isinstance(item, (float, bytes, bytearray, memoryview)) or _is_msgpack_own(item):
        return None
    if isinstance(item, int):
        return None if -(1 << 63) <= item < 1 << 64 else "is an integer of more than 64 bits; call str() or float()"
    if isinstance(item, str):
        try:
            item.encode("utf-8")
            return None
        except UnicodeEncodeError:
            return "is text with lone surrogates, which UTF-8 cannot carry; return bytes (os.fsencode)"
    name = type(item).__qualname__ if type(item).__module__ == "builtins" else (
        f"{type(item).__module__}.{type(item).__qualname__}")
    hint = _HINTS.get(name) or _general_hint(item)
    return f"is a {name}, which MessagePack cannot carry" + (f"; {hint}" if hint else "")


def _general_hint(item: Any) -> Optional[str]:
    if type(item).__module__.split(".")[0] == "numpy":
        return "call .item() or .tolist()"
    if hasattr(type(item), "__dataclass_fields__"):
        return "call dataclasses.asdict()"
    if hasattr(type(item), "__members__"):
        return "return its .value"
    return None


def _spoken(root: str, path: Path) -> str:
    steps: List[str] = []
    prefix = root
    while path is not None:
        path, key = path
        if isinstance(key, _Key):
            prefix = f"the key {_short(key.key, KEY_MAX)} of {root}"
        else:
            steps.append(f"[{quoted(key)}]")
    text = "".join(reversed(steps))
    if len(text) > PATH_MAX:
        text = f"{text[:PATH_MAX // 2]}...{text[-PATH_MAX // 2:]}"
    return prefix + text


def quoted(key: Any) -> str:
    """As it stands in a path, cut when it is long."""
    if isinstance(key, str):
        inner = key if len(key) <= KEY_MAX else key[:KEY_MAX] + "..."
        return '"' + inner.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return _short(key, KEY_MAX)


def _short(thing: Any, limit: int) -> str:
    try:
        text = str(thing) if isinstance(thing, BaseException) else repr(thing)
    except BaseException:
        text = f"<{type(thing).__name__}>"
    return text if len(text) <= limit else text[:limit] + "..."
