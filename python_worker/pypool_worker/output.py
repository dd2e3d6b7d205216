"""stdout and stderr of the worker: pipes that the daemon cuts into lines."""
from __future__ import annotations

import io
import sys


def configure_output() -> None:
    """Whole lines leave at once, and no text can fail to be written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush_output() -> None:
    """What a handler printed must be out before its reply. Never raises: user code may have replaced either."""
    try:
        sys.stdout.flush()
    except BaseException:
        pass
    try:
        sys.stderr.flush()
    except BaseException:
        pass


def release_output() -> None:
    """At the end: what user code put in the place of the outputs must not spoil the exit code (Python's 120)."""
    flush_output()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def complain(message: str) -> None:
    """One line on stderr, for whoever reads the worker's log."""
    try:
        print(f"pypool_worker: {message}", file=sys.stderr, flush=True)
    except BaseException:
        pass  # stderr is gone; there is nobody left to tell
