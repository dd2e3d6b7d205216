"""For the build: `python3 fill_fallback.py DIRECTORY` copies the pure Python part of this interpreter's msgpack there.

Workers whose own interpreter has no msgpack (a venv) use it; see pypool_worker/codec.py.
"""
from __future__ import annotations

import glob
import os
import shutil
import sys


def fill(directory: str) -> str:
    """Makes DIRECTORY/msgpack anew and returns its path."""
    import msgpack

    target = os.path.join(directory, "msgpack")
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    for source in sorted(glob.glob(os.path.join(os.path.dirname(msgpack.__file__), "*.py"))):
        shutil.copyfile(source, os.path.join(target, os.path.basename(source)))
    return target


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(fill(sys.argv[1]))
