"""The place where handlers run: what the parts of this worker are to whoever runs one."""
from __future__ import annotations

from pypool_worker.channel import FRAME_MAX
from pypool_worker.codec import Codec
from pypool_worker.control import Init
from pypool_worker.dump import Dump
from pypool_worker.failure import TRACEBACK_MAX
from pypool_worker.fault import BRIEF
from pypool_worker.interrupt import Interrupt
from pypool_worker.targets import Targets

LARGE = 1 << 16  # bytes of that length are written from where they are: packing would copy them twice


class Place:
    """Lent to the runner and to direct leases."""

    __slots__ = ("codec", "targets", "interrupt", "dump", "max_reply", "traceback_max", "worker", "generation")

    def __init__(self, codec: Codec, targets: Targets, interrupt: Interrupt, dump: Dump, init: Init) -> None:
        """max_reply of `init` in bytes, 0: as much as a frame holds."""
        self.codec = codec
        self.targets = targets
        self.interrupt = interrupt
        self.dump = dump
        self.max_reply = min(init.max_reply or FRAME_MAX, FRAME_MAX)
        self.traceback_max = min(TRACEBACK_MAX, max(BRIEF, self.max_reply // 4))
        self.worker = init.worker
        self.generation = init.generation
