"""Filling: what is made after it lies close together."""
from __future__ import annotations

import os
import subprocess
import sys
from typing import Dict, List, Tuple

import pytest

from tests.support.pythons import other_pythons
from tests.support.worker_harness import ROOT

PAGE = 4096
SIZES = range(48, 513, 16)

SHOW = f"""
import sys
sys.path[:0] = [{ROOT + "/python_worker"!r}]
import argparse, json, logging, random, threading
from pypool_worker.filling import _fillers, fill_gaps
if sys.argv[1] == "fill":
    fill_gaps()
sizes = {list(SIZES)}
made = [[b"0" * (size - bytes.__basicsize__) for _ in range(5)] for size in sizes]
print(*[len({{id(one) // {PAGE} for one in row}}) for row in made], sum(map(len, _fillers)))
"""


def spread(counts: Dict[int, int]) -> List[int]:
    return [size for size, count in counts.items() if count > 1]


def pages(how: str, python: str = sys.executable, **environment: str) -> Tuple[Dict[int, int], int]:
    """By size: how many hold five objects; and how many fillers there are."""
    shown = subprocess.run([python, "-c", SHOW, how], check=True, capture_output=True, text=True,
                           env={**os.environ, **environment}).stdout.split()
    *counts, fillers = map(int, shown)
    return dict(zip(SIZES, counts)), fillers


@pytest.mark.parametrize("python", [sys.executable, *other_pythons()])
def test_what_is_made_afterwards_lies_in_one_page(python: str) -> None:
    scattered, _ = pages("not", python)
    filled, fillers = pages("fill", python)
    assert fillers > 100
    # A few are no longer: to look at one size makes objects of others, and in Python 3.9 a pool has no more than a page.
    assert 3 * len(spread(filled)) < len(spread(scattered)), (filled, scattered)


def test_where_there_are_no_pools_it_gives_up() -> None:
    assert pages("fill", PYTHONMALLOC="malloc")[1] * 32 < 1 << 20  # bytes of what malloc() happened to put in a row
