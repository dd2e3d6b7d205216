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


@expose
def append_line(path: str, text: str) -> int:
    with open(path, "a", encoding="utf-8") as file:
        return file.write(text + "\n")
