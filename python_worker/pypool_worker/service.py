"""The service: what a worker does from its first ready to its exit. A template makes one for all that it forks."""
from __future__ import annotations

import os
from typing import Optional

from pypool_worker.bootstrap import run_stop_hooks
from pypool_worker.closing import close_all
from pypool_worker.control import Init
from pypool_worker.errors import ProtocolError
from pypool_worker.offer import Offer
from pypool_worker.output import complain, release_output
from pypool_worker.parts import Parts
from pypool_worker.place import Place
from pypool_worker.registry import registry
from pypool_worker.runner import Runner
from pypool_worker.targets import Targets


class Service:
    """Of an application that is loaded."""

    def __init__(self, parts: Parts, init: Init, targets: Targets) -> None:
        hooks = registry.session_close_hooks
        self._parts = parts
        self._hooks = hooks
        self._place = Place(parts.codec, targets, parts.interrupt, parts.dump, init)
        self._runner = Runner(parts.channel, self._place, parts.copies, hooks, parts.handover)
        self._offer = Offer(parts.codec, targets.names(), targets.idempotent())

    def run(self, worker: int) -> None:
        """As that worker, until it is to leave. Exits when the call channel breaks."""
        self.serve(worker)
        close_all(self._hooks, self._parts.copies.bound(), self._parts.codec)
        run_stop_hooks(registry)
        release_output()

    def serve(self, worker: int) -> None:
        """One daemon process after another, until there is no other."""
        pid = os.getpid()
        self._place.worker = worker
        succession = self._parts.succession
        try:
            more = succession.begin(self._say_ready)
            while more:
                self._serve_one()
                more = succession.go_on(self._say_ready)
        except (OSError, ProtocolError) as exc:
            _give_up(exc, pid)

    def _say_ready(self, adopted: Optional[int]) -> None:
        self._parts.control.ready(self._offer.message(bool(self._hooks), adopted))

    def _serve_one(self) -> None:
        try:
            self._runner.serve()
        except (OSError, ProtocolError):
            if not self._parts.succession.cut:
                raise


def _give_up(exc: Exception, pid: int) -> None:
    """`pid`: of the worker."""
    if os.getpid() != pid:
        complain("a child that a handler forked came back from the handler: it must end with os._exit()")
    else:
        complain(f"the call channel failed, the worker ends: {exc}"
                 + (" (a handler closed or changed descriptor 3)" if isinstance(exc, OSError) else ""))
    os._exit(1)
