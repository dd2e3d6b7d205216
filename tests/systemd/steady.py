"""Somebody who calls all the time, while something is done to the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.client import CallError, ConnectionEnded
from tests.systemd.service import Service


@contextmanager
def calls_without_end(service: Service) -> Iterator[list[object]]:
    """One new connection after the other, with a call each. What went wrong is in the list: never that one is refused."""
    ended = threading.Event()
    trouble: list[object] = []

    def work() -> None:
        while not ended.is_set():
            try:
                assert service.execute("echo", 1) == 1
            except CallError as e:
                if (e.code, e.executed) != ("draining", "never"):
                    trouble.append(e)
            except (ConnectionEnded, BrokenPipeError, ConnectionResetError):
                pass  # the daemon that had accepted it was gone before it was asked
            except Exception as e:
                trouble.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    yield trouble
    ended.set()
    thread.join()
