"""docs/protocol.md says what the headers of proto/ say, and its bytes are the vectors."""
from __future__ import annotations

import re

import pytest

from tests.support.wire import ROOT, all_vectors, error_table, event_kind_table, method_table, param_table

DOC = (ROOT / "docs" / "protocol.md").read_text()
KINDS = {"NAME": "name", "MS": "ms", "UINT": "uint", "BOOL": "bool", "ANY": "any", "LIST": "array"}


def section(title: str) -> str:
    """What stands under this heading, up to the next one."""
    match = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", DOC, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {title}"
    return match[1]


def table(title: str, heading: str) -> list[list[str]]:
    """The rows of a table of a section, cells stripped of space."""
    _, found, rest = section(title).partition(f"\n{heading}\n")
    assert found, f"no table {heading} in {title}"
    rows = []
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_error_table_is_that_of_errors_h() -> None:
    rows = table("Errors", "| code | executed | meaning |")
    assert rows == [[f"`{e.name}`", e.executed, e.meaning] for e in error_table()]


def test_the_method_table_is_that_of_methods_h() -> None:
    rows = table("Methods", "| method | role | params | what it does |")
    assert len(rows) == len(method_table())
    for (name, role, keys, doc), method in zip(rows, method_table()):
        assert (name, role, doc) == (f"`{method.name}`", method.role, method.doc)
        assert re.findall(r"`(\w+)`", keys) == method.keys


def test_the_params_table_is_that_of_params_h() -> None:
    rows = table("Params", "| key | type | what |")
    assert [(key, kind) for key, kind, _ in rows] == [(f"`{p.name}`", KINDS[p.kind]) for p in param_table()]


def test_the_table_of_events_is_that_of_events_h() -> None:
    kinds = event_kind_table()
    assert len(kinds) > 5
    rows = table("event", "| kind | told | what such events are |")
    assert rows == [[f"`{k.name}`", "always" if k.usual else "when asked for", k.doc] for k in kinds]
    rows = table("event", "| kind | `what` | other keys |")
    assert [row[0] for row in rows] == [f"`{k.name}`" for k in kinds]


@pytest.mark.parametrize("method", [m.name for m in method_table()])
def test_every_method_has_a_section(method: str) -> None:
    assert section(method).strip()


def test_every_block_of_bytes_is_a_vector() -> None:
    vectors = {v.data for v in all_vectors()}
    blocks = re.findall(r"^```hex\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 2 * len(method_table())
    assert DOC.count("```") == 2 * len(blocks), "a block that is not checked"
    for block in blocks:
        assert bytes.fromhex(block) in vectors, block


def test_every_method_is_shown_byte_by_byte() -> None:
    shown = re.sub(r"\s+", " ", DOC)
    for vector in all_vectors():
        if vector.file == "methods" and re.fullmatch(r"[\w.]+ (request|response) bare", vector.what):
            assert vector.data.hex(" ") in shown, vector.what


def test_the_limits_are_those_of_the_headers() -> None:
    proto = "".join((ROOT / "proto" / name).read_text() for name in ("cursor.h", "frame.h", "params.h"))
    assert "CURSOR_DEPTH_MAX 512 " in proto and "at most 512 deep" in DOC
    assert "FRAME_MAX_LIMIT 0x04FFFFFFu " in proto and "`04 ff ff ff`" in DOC
    assert "PARAM_MS_MAX (UINT64_C(1) << 31)" in proto and "from 1 to 2147483648" in DOC
    assert "PARAM_NAME_MAX 255" in proto and "1 to 255 bytes" in DOC
