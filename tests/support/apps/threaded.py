"""Has a thread when it has been imported: no process to fork."""

import threading

from pypool_worker import expose

threading.Thread(target=threading.Event().wait, name="telemetry", daemon=True).start()


@expose
def add(a: int, b: int) -> int:
    return a + b
