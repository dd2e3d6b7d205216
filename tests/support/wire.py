"""The wire as the tree describes it: the vectors of tests/vectors and the tables in the headers of proto/."""
from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"


class Vector(NamedTuple):
    """One line `what: hex bytes`; message is what the `#=` line before it says, if there is one."""

    file: str
    what: str
    data: bytes
    message: Any


class ErrorLine(NamedTuple):
    name: str
    executed: str
    meaning: str


class MethodLine(NamedTuple):
    name: str
    role: str
    keys: list[str]
    doc: str


class EventKindLine(NamedTuple):
    name: str
    usual: bool
    doc: str


class ParamLine(NamedTuple):
    name: str
    kind: str


def read_vectors(name: str) -> list[Vector]:
    """The vectors of one file. Raises ValueError for a line that is none."""
    found: list[Vector] = []
    message: Any = None
    for line in (VECTORS / f"{name}.hex").read_text().splitlines():
        if line.startswith("#= "):
            message = json.loads(line[3:])
        elif not line:
            message = None
        elif not line.startswith("#"):
            what, colon, digits = line.partition(": ")
            if not colon:
                raise ValueError(f"{name}.hex: no vector: {line}")
            found.append(Vector(name, what, bytes.fromhex(digits), message))
    return found


def all_vectors() -> list[Vector]:
    return [v for path in sorted(VECTORS.glob("*.hex")) for v in read_vectors(path.stem)]


def _lines_of_table(header: str, table: str) -> list[str]:
    """The arguments of each X(...) of an X-macro, backslashes and line ends removed."""
    text = (ROOT / "proto" / header).read_text()
    match = re.search(rf"#define {table}\(X\)((?:[^\n]*\\\n)*[^\n]*)\n", text)
    if match is None:
        raise ValueError(f"{header} has no {table}")
    body = re.sub(r"\s*\\\n\s*", " ", match[1])
    return re.findall(r'X\(((?:[^()"]|"(?:[^"\\]|\\.)*"|\([^()]*\))*)\)', body)


def _text(literal: str) -> str:
    value = ast.literal_eval(literal)
    if not isinstance(value, str):
        raise ValueError(f"no string: {literal}")
    return value


def error_table() -> list[ErrorLine]:
    found = []
    for line in _lines_of_table("errors.h", "PROTO_ERRORS"):
        _, name, executed, meaning = (part.strip() for part in line.split(",", 3))
        found.append(ErrorLine(name, executed.lower(), _text(meaning)))
    return found


def method_table() -> list[MethodLine]:
    found = []
    for line in _lines_of_table("methods.h", "PROTO_METHODS"):
        _, name, role, keys, doc = (part.strip() for part in line.split(",", 4))
        found.append(MethodLine(_text(name), role.lower(), re.findall(r"k\((\w+)\)", keys.lower()), _text(doc)))
    return found


def event_kind_table() -> list[EventKindLine]:
    found = []
    for line in _lines_of_table("events.h", "PROTO_EVENT_KINDS"):
        _, name, usual, doc = (part.strip() for part in line.split(",", 3))
        found.append(EventKindLine(_text(name), usual == "true", _text(doc)))
    return found


def param_table() -> list[ParamLine]:
    found = []
    for line in _lines_of_table("params.h", "PROTO_PARAMS"):
        _, name, kind = (part.strip() for part in line.split(","))
        found.append(ParamLine(name, kind))
    return found
