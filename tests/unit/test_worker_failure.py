"""Failure and misfit: whatever is looked at, plain bounded text comes out."""
from __future__ import annotations

import datetime
import decimal
import json
import re
from typing import Any, Callable, List

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypool_worker.failure import MESSAGE_MAX, TRACEBACK_MAX, Failure, safe_text
from pypool_worker.misfit import describe_misfit


def failure_of(function: Callable[[], Any]) -> Failure:
    try:
        function()
    except BaseException as exc:
        failure = Failure(exc)
    msgpack.packb(failure.as_map())
    return failure


class Mean(Exception):
    def __str__(self) -> str:
        raise SystemExit("in __str__")

    __repr__ = __str__


def test_an_exception_whose_str_raises_is_still_told() -> None:
    def mean() -> None:
        raise Mean
    failure = failure_of(mean)
    assert failure.type.endswith("Mean") and "SystemExit" in failure.message and "in mean" in failure.traceback


def test_huge_messages_are_cut_and_keep_both_ends() -> None:
    def huge() -> None:
        raise ValueError("BEGIN" + "x" * 5_000_000 + "END")
    failure = failure_of(huge)
    assert failure.message.startswith("BEGIN") and failure.message.endswith("END")
    assert len(failure.message) < MESSAGE_MAX + 50 and len(failure.traceback) < TRACEBACK_MAX + 50
    assert failure.traceback.startswith("Traceback") and failure.traceback.rstrip().endswith("END")


def test_chained_exceptions_stand_in_the_traceback() -> None:
    def chained() -> None:
        try:
            int("twelve")
        except ValueError as exc:
            raise LookupError("no such order") from exc
    text = failure_of(chained).traceback
    assert "twelve" in text and "direct cause" in text and text.rstrip().endswith("LookupError: no such order")


def test_a_chained_exception_names_what_it_came_from() -> None:
    def chained() -> None:
        try:
            int("twelve")
        except ValueError as exc:
            raise LookupError("no such order") from exc
    place = r"test_worker_failure\.py line \d+"
    assert re.fullmatch(rf"LookupError: no such order, {place}, caused by ValueError: invalid literal for int\(\) with "
                        rf"base 10: 'twelve', {place}", failure_of(chained).summary())


def test_an_exception_in_an_except_clause_names_the_first_one() -> None:
    def clumsy() -> None:
        try:
            {}["order"]  # type: ignore[index]
        except KeyError:
            raise OSError("cannot log it")
    assert ", raised while handling KeyError: 'order', test_worker_failure.py line " in failure_of(clumsy).summary()


def test_a_cause_that_is_switched_off_is_not_told() -> None:
    def quiet() -> None:
        try:
            int("twelve")
        except ValueError:
            raise LookupError("no such order") from None
    assert "twelve" not in failure_of(quiet).summary()


def test_ten_thousand_chained_exceptions_are_told() -> None:
    def chain() -> None:
        exc: Exception = ValueError("innermost")
        for number in range(10_000):
            outer = ValueError(str(number))
            outer.__cause__ = exc
            exc = outer
        raise exc
    assert "9999" in failure_of(chain).traceback


def test_endless_recursion_is_told_shortly() -> None:
    def again() -> None:
        again()
    failure = failure_of(again)
    assert failure.type == "RecursionError" and len(failure.traceback) < TRACEBACK_MAX + 50


def test_the_place_is_the_users_last_line_and_not_the_librarys() -> None:
    failure = failure_of(lambda: json.loads("{"))
    assert failure.file == __file__ and failure.where(": ").startswith(": test_worker_failure.py line ")


def test_lone_surrogates_are_escaped() -> None:
    def surrogate() -> None:
        raise ValueError("bad \udcff byte")
    assert failure_of(surrogate).message == "bad \\udcff byte"


@given(st.text(st.characters(), max_size=300), st.integers(20, 100))
@settings(max_examples=200)
def test_safe_text_is_bounded_utf_8(text: str, limit: int) -> None:
    safe = safe_text(text, limit).encode("utf-8")
    assert len(safe) <= limit + len("\n... left out ...\n")


def told(value: Any) -> str:
    try:
        msgpack.packb(value)
    except Exception as exc:
        return describe_misfit(value, exc)
    raise AssertionError("it can be packed")


@pytest.mark.parametrize("value,expected", [
    ({"a": [1, 2, 3, {4}]}, 'result["a"][3] is a set'),
    ({1, 2}, "result is a set, which MessagePack cannot carry; return sorted(...) or list(...)"),
    ([datetime.datetime(2024, 1, 1)],
     "result[0] is a datetime.datetime, which MessagePack cannot carry; call .isoformat()"),
    ({"x": {7: decimal.Decimal(1)}}, 'result["x"][7] is a decimal.Decimal'),
    ([[2 ** 64]], "result[0][0] is an integer of more than 64 bits"),
    ({"t": "\udcff"}, 'result["t"] is text with lone surrogates'),
    ({(1, frozenset()): 1}, "the key (1, frozenset()) of result[1] is a frozenset"),
    ({"k\udcff": 1}, "is text with lone surrogates"),
    ((object(),), "result[0] is a object"),
])
def test_misfits_are_named_with_their_place(value: Any, expected: str) -> None:
    assert expected in told(value)


def test_a_result_that_contains_itself_is_told() -> None:
    loop: List[Any] = []
    loop.append(loop)
    assert "contains itself" in told(loop) and len(told(loop)) < 300


def test_numpy_values_get_the_right_advice() -> None:
    numpy = pytest.importorskip("numpy")
    assert "numpy.int64" in told([numpy.int64(1)]) and ".item() or .tolist()" in told([numpy.int64(1)])


LEAVES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just("\udcff"), st.binary(max_size=3),
                   st.just({1}))
KEYS = st.one_of(st.text(max_size=3), st.integers())


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20))
@settings(max_examples=60, deadline=None)
def test_a_misfit_is_found_exactly_where_packing_fails(value: Any) -> None:
    try:
        msgpack.packb(value)
        failed = False
    except Exception:
        failed = True
    found = describe_misfit(value, ValueError("GENERIC"))
    assert ("GENERIC" not in found) == failed
