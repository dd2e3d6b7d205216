"""The application of the benchmark: what the floors do, as a handler."""

from __future__ import annotations

from pypool_worker import expose


@expose
def echo(value: object) -> object:
    """Answers its argument."""
    return value


@expose
def nap(seconds: float) -> None:
    """Waits, so that others must."""
    import time

    time.sleep(seconds)


@expose
def hold(value: object) -> object:
    """Answers its argument after some milliseconds, now more, now less."""
    import random
    import time

    time.sleep(random.uniform(0.002, 0.006))
    return value
