"""stdout and stderr of the worker: pipes that the daemon cuts into lines."""
from __future__ import annotations

import io
import os
import sys
from typing import Any, Callable, List, Optional


class _Pipe(io.FileIO):
    """A pipe that is waited for, whatever flags its descriptor has.

    O_NONBLOCK is easily set by one call, asyncio does it, and then stays: each later print() of more than the pipe takes
    would fail with BlockingIOError and lose what it had to say.
    """

    def write(self, data: Any, /) -> int:
        """All of it: without a buffer in between nobody asks how much was written."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            written: Optional[int] = super().write(rest)
            if written is None:
                os.set_blocking(self.fileno(), True)
            else:
                rest = rest[written:]
        return size


def _rebuilt(stream: Any) -> Any:
    """The same on a _Pipe. What user code, or nobody, has put there stays."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = _Pipe(stream.fileno(), "wb", closefd=False)
    through = stream.write_through  # PYTHONUNBUFFERED
    buffer: Any = raw if through else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True, write_through=through)


def configure_output() -> None:
    """Whole lines leave at once, and no text can fail to be written."""
    sys.stdout = sys.__stdout__ = _rebuilt(sys.stdout)
    sys.stderr = sys.__stderr__ = _rebuilt(sys.stderr)


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


def flushes() -> List[Callable[[], object]]:
    """What flushes each of the outputs that there are now. It may raise: a stream may be closed, or anything."""
    streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
    found = {id(stream): stream.flush for stream in streams if callable(getattr(stream, "flush", None))}
    return list(found.values())


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
