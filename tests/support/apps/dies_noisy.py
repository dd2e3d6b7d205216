"""Prints on both outputs, then dies while it is imported."""
import sys


def connect() -> None:
    raise RuntimeError("licence server refused")


print("about to connect")
print("warning: no cache", file=sys.stderr)
connect()
