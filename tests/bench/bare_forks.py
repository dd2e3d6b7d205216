"""The floor of a warm start: a process with numpy forks N children that only draw numbers. Prints seconds, ROUNDS lines."""

from __future__ import annotations

import os
import struct
import sys
import time

import numpy

DOUBLE = struct.Struct("d")


def burst(n: int) -> float:
    """Until the last of them has drawn."""
    reader, writer = os.pipe()
    begun = time.monotonic()
    for _ in range(n):
        if os.fork() == 0:
            numpy.random.random(4).sum()
            os.write(writer, DOUBLE.pack(time.monotonic()))
            os._exit(0)
    ends = [DOUBLE.unpack(os.read(reader, DOUBLE.size))[0] for _ in range(n)]
    for _ in range(n):
        os.wait()
    os.close(reader)
    os.close(writer)
    return float(max(ends) - begun)


def main() -> None:
    n, rounds = map(int, sys.argv[1:])
    for _ in range(rounds):
        print(burst(n))


if __name__ == "__main__":
    main()
