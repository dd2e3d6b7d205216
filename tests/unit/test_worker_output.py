"""What a worker prints arrives, whatever is done to its descriptors."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = 20_000  # many times what a pipe takes
SCRIPT = f"""
import os, sys
from pypool_worker.output import configure_output
configure_output()
os.set_blocking(1, False)
os.set_blocking(2, False)
print("begun", file=sys.stderr)
for i in range({LINES}):
    print(f"line {{i}} \\u00fc\\udc80")
print("no newline", end="")
sys.stdout.flush()
print("done", file=sys.stderr)
"""


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_fault_44_nothing_is_lost_when_the_outputs_were_made_non_blocking(options: list[str]) -> None:
    command = [sys.executable, *options, "-c", SCRIPT]
    with subprocess.Popen(command, cwd=ROOT / "python_worker", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stderr.readline() == b"begun\n"
        got = child.stdout.read().decode()
        assert child.stderr.read() == b"done\n"
    assert child.returncode == 0
    assert got == "".join(f"line {i} ü\\udc80\n" for i in range(LINES)) + "no newline"
