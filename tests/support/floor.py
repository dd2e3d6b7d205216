"""What this machine needs at the least. There are some on which a page fault, and so a fork, takes ten times as long as on others."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

TRIES = 7


def fork_floor() -> float:
    """Seconds until a child of this process, which does nothing else, has said so: the best of some."""
    return min(_fork() for _ in range(TRIES))


def start_floor(program: Path) -> float:
    """Seconds that a program takes to say its version: the best of some."""
    return min(_start(program) for _ in range(TRIES))


def _fork() -> float:
    reader, writer = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"1")
        os._exit(0)
    os.read(reader, 1)
    took = time.monotonic() - begun
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    return took


def _start(program: Path) -> float:
    begun = time.monotonic()
    subprocess.run([program, "--version"], check=True, capture_output=True)
    return time.monotonic() - begun
