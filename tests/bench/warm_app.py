"""What is spawned by the bench of warm starts: a worker with numpy."""

import time
from typing import Any

import numpy

from pypool_worker import expose


@expose
def echo(value: Any = None) -> Any:
    return value


@expose
def stay(seconds: float) -> float:
    """When it began. Stays, so that the next call needs another worker."""
    begun = time.monotonic()
    numpy.random.random(4).sum()
    time.sleep(seconds)
    return begun
