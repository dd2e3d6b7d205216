"""The worker's own loop without its daemon: what a broker is measured against when the worker's share must be the same."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "python_worker")]

from pypool_worker.channel import Channel  # noqa: E402
from pypool_worker.codec import load_codec  # noqa: E402
from pypool_worker.control import Init  # noqa: E402
from pypool_worker.copies import Copies  # noqa: E402
from pypool_worker.dump import Dump  # noqa: E402
from pypool_worker.handover import Handover  # noqa: E402
from pypool_worker.interrupt import Interrupt  # noqa: E402
from pypool_worker.place import Place  # noqa: E402
from pypool_worker.registry import registry  # noqa: E402
from pypool_worker.runner import Runner  # noqa: E402
from pypool_worker.targets import Targets  # noqa: E402


def main() -> None:
    """Serves fd 3, with a page that never interrupts and a dump that goes nowhere."""
    importlib.import_module("echo_app")
    targets = Targets("echo_app", [])
    targets.add(registry.handlers, "echo_app")
    page = memoryview(b"\xff" * 16).cast("Q")  # wanted: no call has that number, but the load's first one is 0
    dump = Dump(os.open(os.devnull, os.O_WRONLY))
    place = Place(load_codec(""), targets, Interrupt(page), dump, Init({"app": "echo_app"}))
    Runner(Channel(3), place, Copies(), [], Handover()).serve()


if __name__ == "__main__":
    main()
