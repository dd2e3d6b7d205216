"""Handlers that keep memory."""
from __future__ import annotations

from typing import List

from pypool_worker import expose

kept: List[bytearray] = []


@expose
def keep(nbytes: int) -> int:
    """Keeps that many bytes, touched. How often it was called in this worker."""
    block = bytearray(nbytes)
    block[::4096] = b"\x01" * len(block[::4096])
    kept.append(block)
    return len(kept)
