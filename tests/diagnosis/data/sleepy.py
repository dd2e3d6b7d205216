"""Waits in its import for what does not come."""
import time


def wait_for_licence() -> None:
    time.sleep(3600)


wait_for_licence()
