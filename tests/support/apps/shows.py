"""Shows a worker what it was given."""

import os
import time
from typing import Optional

from pypool_worker import expose


@expose
def environment(name: str) -> Optional[str]:
    return os.environ.get(name)


@expose
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@expose
def add(a: int, b: int) -> int:
    return a + b
