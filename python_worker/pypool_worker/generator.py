"""numpy's global generator of random numbers, which is to be in another state in each worker.

A template gives it a new one after each fork, so before the next: there it costs the worker nothing, and by writing into
its state, since numpy.random.seed() touches as much memory as the rest of a fork.
"""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pypool_worker.output import complain

if TYPE_CHECKING:
    from pypool_worker.native import Native

WORDS = 624  # of a Mersenne twister; how many of them have been used stands behind them, and may stay
SIZE = 4 * WORDS


class Generator:
    """That of the numpy that the application has imported, if it has."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._random: Any = sys.modules.get("numpy.random")
        self._address = 0
        self._seed()  # also forgets the number that it has drawn in advance
        if self._random is not None:
            self._address = self._find()

    def renew(self) -> None:
        """Another state, of the system's random numbers."""
        if not self._address or not self._native.fill_with_random(self._address, SIZE):
            self._seed()

    def _seed(self) -> None:
        if self._random is None:
            return
        try:
            self._random.seed()
        except Exception as exc:  # the application has put another one in its place
            complain(f"numpy.random cannot be seeded anew, and is the same in all workers: {exc}")
            self._random = None

    def _find(self) -> int:
        """Where the state is; 0 when it is not there as it is known to be."""
        from ctypes import c_uint32

        try:
            kind, key, used = self._random.get_state()[:3]
            address: int = self._random.mtrand._rand._bit_generator.ctypes.state_address
            there = list((c_uint32 * (WORDS + 1)).from_address(address))
            return address if kind == "MT19937" and there == [*map(int, key), used] else 0
        except Exception:
            return 0
