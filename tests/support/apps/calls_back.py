"""A handler that is a client of its own pool."""
from __future__ import annotations

from typing import List

from pypool_client import Client, PypoolError
from pypool_worker import expose


@expose
def descend(path: str, depth: int) -> List[str]:
    """Calls itself through the daemon that many times.

    The names of those below, or code, executed and message of what failed.
    """
    if depth == 0:
        return []
    try:
        with Client(path) as client:
            below: List[str] = client.execute("descend", path, depth - 1)
    except PypoolError as error:
        return [error.code, error.executed, error.message]
    return below if len(below) == 3 else ["descend", *below]
