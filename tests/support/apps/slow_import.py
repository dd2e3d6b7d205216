"""Imports for PYPOOL_TEST_SECONDS, 5 by default."""
import os
import time
from typing import Any

from pypool_worker import expose

time.sleep(float(os.environ.get("PYPOOL_TEST_SECONDS", "5")))


@expose
def echo(value: Any = None) -> Any:
    return value


@expose
def pid() -> int:
    return os.getpid()


@expose
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
