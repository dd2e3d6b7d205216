"""The shapes of JSON as docs/json.md writes them, and what of a value is otherwise.

A shape is JSON too. Text names types, with | between them: text integer number bool null any. {"key": shape} is a map with exactly
these keys; one that ends with ? may be left out; {"*": shape} has any keys. [shape] is a list of any length.
"""

from __future__ import annotations

from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "integer": (int,), "number": (int, float), "bool": (bool,), "null": (type(None),)
}


def is_of_type(value: Any, name: str) -> bool:
    if name == "any":
        return True
    if isinstance(value, bool):
        return name == "bool"
    return isinstance(value, TYPES[name])


def complaints(value: Any, shape: Any, place: str = "") -> list[str]:
    """What is wrong, each with its place."""
    if isinstance(shape, dict) and "or" in shape and len(shape) == 1:
        tried = [complaints(value, one, place) for one in shape["or"]]
        return [] if [] in tried else min(tried, key=len)
    if isinstance(shape, str):
        is_fine = any(is_of_type(value, name) for name in shape.split("|"))
        return [] if is_fine else [f"{place}: {shape} is documented, and it is {value!r:.60}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{place}: a list is documented, and it is {value!r:.60}"]
        return [c for i, item in enumerate(value) for c in complaints(item, shape[0], f"{place}[{i}]")]
    if not isinstance(value, dict):
        return [f"{place}: a map is documented, and it is {value!r:.60}"]
    if "*" in shape:
        return [c for key, item in value.items() for c in complaints(item, shape["*"], f"{place}.{key}")]
    return map_complaints(value, shape, place)


def map_complaints(value: dict[str, Any], shape: dict[str, Any], place: str) -> list[str]:
    known = {key.rstrip("?"): key for key in shape}
    found = [f"{place}.{key} is not documented" for key in value if key not in known]
    found += [f"{place}.{key} is documented and not there" for key in shape if not key.endswith("?") and key not in value]
    for key in value.keys() & known.keys():
        found += complaints(value[key], shape[known[key]], f"{place}.{key}")
    return found
