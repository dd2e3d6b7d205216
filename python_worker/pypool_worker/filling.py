"""Filling: closes the gaps between objects, so that what a worker makes lies close together, in pages of its own.

Python keeps small objects of one size in pools, and gives what is new the place of something that has gone. A forked worker
that takes such a place copies the page, for what else lies there, and that of the head of its pool.
"""
from __future__ import annotations

import sys
from functools import partial
from operator import mul
from typing import Callable, Iterator, List, Optional, Tuple

STEP, SMALL = 16, 512  # bytes: the sizes of small objects
POOL = (16 if sys.version_info >= (3, 10) else 4) * 1024
POOL_HEAD = 48
ROW = 6  # objects one behind the other, from the begin of a pool on: nothing has been there before
MOST = 64 * POOL  # bytes of one size: there are no pools, or gaps without end
PATIENCE = 3  # sizes of which that is so

Make = Callable[[], object]

_fillers: List[List[object]] = []


def fill_gaps() -> None:
    """What is in them stays. About a millisecond; gives up where Python keeps its objects in another way."""
    failed = 0
    for size, make in _makers():
        made = _fill(size, make)
        failed += made is None
        if made is not None:
            _fillers.append(made)
        elif failed == PATIENCE:
            return


def _fill(size: int, make: Make) -> Optional[List[object]]:
    """What is in the gaps now. None: they did not end."""
    made: List[object] = []
    fresh = None
    while fresh is None:
        if len(made) * size >= MOST:
            return None
        seen = max(0, len(made) - ROW)
        made += [make() for _ in range(POOL // size + ROW)]  # at once: to look at them makes other objects
        fresh = _find_row(made, seen, size)
    while len(made) > fresh:
        made.pop()  # the last first: what is freed last is taken next
    return made


def _makers() -> Iterator[Tuple[int, Make]]:
    """By size. They make nothing else on the way."""
    yield STEP, object
    yield 2 * STEP, partial(mul, 1.5, 1.5)
    for size in range(3 * STEP, SMALL + STEP, STEP):
        yield size, partial(mul, b"0", size - bytes.__basicsize__)


def _find_row(made: List[object], begin: int, size: int) -> Optional[int]:
    """Where it begins, from there on."""
    places = list(map(id, made[begin:]))
    for first, place in enumerate(places[:1 - ROW]):
        if place % POOL == POOL_HEAD and places[first:first + ROW] == list(range(place, place + ROW * size, size)):
            return begin + first
    return None
