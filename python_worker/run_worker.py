"""What pypoold starts, with a Python of the pool's choice: puts `pypool_worker` within reach and hands over to it.

The directory of this file does not stay in sys.path: only the package becomes importable, because it is already loaded.
multiprocessing's "spawn" runs this file again in each child under another name; that loads the package for them
too, and nothing else.
"""
import sys
import time

# As far as this line any Python can read this file.
if sys.version_info < (3, 9):
    sys.exit("pypoold needs Python 3.9 or newer, and this is %d.%d.%d" % tuple(sys.version_info[:3]))

STARTED_NS = time.monotonic_ns()  # the first line of Python that runs: the phase "interpreter" ends here

import os  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

sys.path.insert(0, HERE)
__import__("pypool_worker")

# Also the entry that Python itself put there for the script, and the current directory.
OURS = os.path.realpath(HERE)
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".") and os.path.realpath(entry) != OURS]

if __name__ == "__main__":
    from pypool_worker.main import main

    sys.exit(main(STARTED_NS, os.path.join(HERE, "fallback"), sys.argv[1:]))
