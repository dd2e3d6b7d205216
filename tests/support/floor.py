"""What this machine needs at the least. There are some on which a page fault, and so a fork, takes ten times as long as on others."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

TRIES = 7
MOST = 0.1  # seconds: what takes longer is no floor

FORK = """
import argparse, ctypes, json, logging, os, random, threading, time
reader, writer = os.pipe()
begun = time.monotonic()
pid = os.fork()
if pid == 0:
    os.write(writer, b"1")
    os._exit(0)
os.read(reader, 1)
print(time.monotonic() - begun)
os.waitpid(pid, 0)
"""


def fork_floor() -> float:
    """Seconds until a child of a Python that has imported what most have has said so: the best of some."""
    return min(MOST, *(_fork() for _ in range(TRIES)))


def start_floor(program: Path) -> float:
    """Seconds that a program takes to say its version: the best of some."""
    return min(MOST, *(_start(program) for _ in range(TRIES)))


def memory_floor(size: int) -> float:
    """Seconds until as many bytes that nobody had have been written to: the best of some."""
    return min(MOST, *(_write_anew(size) for _ in range(TRIES)))


def _write_anew(size: int) -> float:
    begun = time.monotonic()
    with mmap.mmap(-1, size) as fresh:
        fresh.write(bytes(size))
    return time.monotonic() - begun


def _fork() -> float:
    done = subprocess.run([sys.executable, "-I", "-c", FORK], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _start(program: Path) -> float:
    begun = time.monotonic()
    subprocess.run([program, "--version"], check=True, capture_output=True)
    return time.monotonic() - begun
