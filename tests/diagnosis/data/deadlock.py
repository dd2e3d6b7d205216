"""Waits in its import for a thread that waits for the import."""
import threading


def helper() -> None:
    from deadlock import RESULT  # noqa: F401


thread = threading.Thread(target=helper)
thread.start()
thread.join()
RESULT = 1
