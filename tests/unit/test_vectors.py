"""The vectors of tests/vectors, with msgpack-python as the oracle; test_vectors.c reads the same files with proto/."""
from __future__ import annotations

import re

import msgpack
import pytest

from tests.support.wire import (VECTORS, ErrorLine, MethodLine, Vector, all_vectors, error_table, method_table,
                                read_vectors)

FRAMINGS = ("bare", "prefixed")


def body_of(vector: Vector) -> bytes:
    """The message without its length. Asserts that the length is right."""
    if vector.data[0] > 4:
        return vector.data
    assert int.from_bytes(vector.data[:4], "big") == len(vector.data) - 4, vector.what
    return vector.data[4:]


def by_name(name: str) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for vector in read_vectors(name):
        assert vector.what not in found, f"{vector.what} is there twice"
        found[vector.what] = vector
    return found


def test_the_files_are_those_that_the_c_tests_read() -> None:
    assert sorted(path.stem for path in VECTORS.iterdir()) == ["accepted", "errors", "methods", "news", "refused"]


def test_no_vector_is_there_twice() -> None:
    names = [(v.file, v.what) for v in all_vectors()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["methods", "errors", "news"])
def test_bytes_are_the_message_that_stands_above_them_and_nothing_longer(name: str) -> None:
    for vector in read_vectors(name):
        assert vector.message is not None, vector.what
        assert msgpack.unpackb(body_of(vector)) == vector.message, vector.what
        assert msgpack.packb(vector.message) == body_of(vector), vector.what


@pytest.mark.parametrize("name", ["methods", "errors", "news"])
def test_both_framings_carry_the_same_message(name: str) -> None:
    vectors = by_name(name)
    for what, vector in vectors.items():
        base, framing = what.rsplit(" ", 1)
        assert framing in FRAMINGS, what
        assert (vector.data[0] <= 4) == (framing == "prefixed"), what
        assert body_of(vectors[f"{base} bare"]) == body_of(vectors[f"{base} prefixed"])


@pytest.mark.parametrize("method", method_table(), ids=[m.name for m in method_table()])
def test_every_method_has_a_request_and_a_response(method: MethodLine) -> None:
    vectors = by_name("methods")
    for framing in FRAMINGS:
        kind, request_id, name, params = msgpack.unpackb(body_of(vectors[f"{method.name} request {framing}"]))
        assert (kind, name) == (0, method.name)
        assert len(params) <= 1
        assert set(params[0] if params else {}) <= set(method.keys)
        kind, response_id, error, _ = msgpack.unpackb(body_of(vectors[f"{method.name} response {framing}"]))
        assert (kind, response_id, error) == (1, request_id, None)


def test_there_are_no_vectors_of_unknown_methods_or_codes() -> None:
    assert {what.split(" ")[0] for what in by_name("methods")} == {m.name for m in method_table()}
    assert {what.split(" ")[0] for what in by_name("errors")} == {e.name for e in error_table()}


@pytest.mark.parametrize("code", error_table(), ids=[e.name for e in error_table()])
def test_every_code_has_both_shapes(code: ErrorLine) -> None:
    vectors = by_name("errors")
    for framing in FRAMINGS:
        kind, _, error, result = msgpack.unpackb(body_of(vectors[f"{code.name} map {framing}"]))
        assert (kind, result) == (1, None)
        assert (error["code"], error["executed"]) == (code.name, code.executed)
        assert error["message"]
        assert set(error) <= {"code", "message", "executed", "retry_after_ms", "pool", "worker", "session", "phase",
                              "cause"}
        kind, _, text, result = msgpack.unpackb(body_of(vectors[f"{code.name} string {framing}"]))
        assert (kind, result) == (1, None)
        match = re.fullmatch(r"(\w+): (.*) \(executed: (never|maybe|yes)\)", text)
        assert match is not None
        assert match.groups() == (code.name, error["message"], code.executed)


def test_what_is_bad_msgpack_is_refused_by_the_oracle_too() -> None:
    # the cap on depth is ours: msgpack-python reads deeper than it can write
    bad = [v for v in read_vectors("refused") if v.what.startswith("bad_msgpack ") and "513 deep" not in v.what]
    assert len(bad) > 7
    for vector in bad:
        with pytest.raises(ValueError):
            msgpack.unpackb(body_of(vector), raw=True, strict_map_key=False)


def test_what_is_a_bad_request_is_well_formed() -> None:
    bad = [v for v in read_vectors("refused") if v.what.startswith("bad_request ")]
    assert len(bad) > 20
    for vector in bad:
        msgpack.unpackb(body_of(vector), raw=True, strict_map_key=False)


def test_accepted_forms_are_messages() -> None:
    for vector in read_vectors("accepted"):
        message = msgpack.unpackb(vector.data)
        assert message[0] in (0, 2), vector.what
        assert len(message) == (4 if message[0] == 0 else 3), vector.what
