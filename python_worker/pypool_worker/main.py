"""main(): a worker, or a template and each worker that it forks, in the order of docs/worker-protocol.md."""
from __future__ import annotations

import os
import sys
from functools import partial
from typing import Dict, List, Optional

from pypool_worker.bootstrap import Bootstrap, InitFailed, run_stop_hooks
from pypool_worker.closing import close_all
from pypool_worker.codec import load_codec
from pypool_worker.control import Init, pack_offer
from pypool_worker.errors import ProtocolError
from pypool_worker.output import complain, configure_output, flush_output, release_output
from pypool_worker.parts import Parts
from pypool_worker.place import Place
from pypool_worker.registry import registry
from pypool_worker.runner import Runner
from pypool_worker.targets import Targets

EXIT_USAGE = 2
TEMPLATE = "template"


class Worker:
    """Its life, from hello to the exit code."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pid = os.getpid()

    def run(self, started_ns: int, targets: Optional[Targets] = None) -> int:
        """`targets`: of a worker that was forked, in which the application is loaded already."""
        control = self._parts.control
        control.hello(started_ns)
        init = control.wait_init()
        if init is None:
            return 0
        control.start()
        return self._run_app(init, targets)

    def _run_app(self, init: Init, targets: Optional[Targets]) -> int:
        control = self._parts.control
        bootstrap = Bootstrap(init, control, registry)
        forked = targets is not None
        try:
            targets = targets or bootstrap.load()
            if targets is None:
                return 0
            bootstrap.start(forked)
        except InitFailed:
            flush_output()
            os._exit(1)  # not sys.exit: threads that the half-imported application started would be waited for
        if not control.stopping:
            hooks = registry.session_close_hooks
            offer = pack_offer(self._parts.codec, targets.names(), targets.idempotent(), bool(hooks))
            place = Place(self._parts.codec, targets, self._parts.interrupt, self._parts.dump, init)
            self._serve(Runner(self._parts.channel, place, self._parts.copies, hooks, self._parts.handover), offer)
            close_all(hooks, self._parts.copies.bound(), self._parts.codec)
        run_stop_hooks(registry)
        release_output()
        return 0

    def _serve(self, runner: Runner, offer: Dict[str, bytes]) -> None:
        """One daemon process after another, until there is no other."""
        succession, ready = self._parts.succession, partial(self._parts.control.ready, offer)
        try:
            more = succession.begin(ready)
            while more:
                self._serve_one(runner)
                more = succession.go_on(ready)
        except (OSError, ProtocolError) as exc:
            self._give_up(exc)

    def _serve_one(self, runner: Runner) -> None:
        try:
            runner.serve()
        except (OSError, ProtocolError):
            if not self._parts.succession.cut:
                raise

    def _give_up(self, exc: Exception) -> None:
        if os.getpid() != self._pid:
            complain("a child that a handler forked came back from the handler: it must end with os._exit()")
        else:
            complain(f"the call channel failed, the worker ends: {exc}"
                     + (" (a handler closed or changed descriptor 3)" if isinstance(exc, OSError) else ""))
        os._exit(1)


def main(started_ns: int, fallback: str, arguments: List[str]) -> int:
    """Runs a worker, or a template, on descriptors 3 to 6. Returns the exit code."""
    configure_output()
    parts = _make_parts(fallback)
    if parts is None:
        return EXIT_USAGE
    parts.install()
    if arguments == [TEMPLATE]:
        from pypool_worker.template import Template  # here: only a template needs it

        newborn = Template(parts).run(started_ns)  # comes back in each worker that was forked, and nowhere else
        return Worker(parts).run(newborn.born_ns, newborn.targets)
    return Worker(parts).run(started_ns)


def _make_parts(fallback: str) -> Optional[Parts]:
    try:
        return Parts(load_codec(fallback))
    except ImportError as exc:
        complain(f"msgpack cannot be imported by {sys.executable}, nor from {fallback}: {exc}")
    except (OSError, ValueError) as exc:
        complain(f"this is started by pypoold, which provides descriptors 3 to 6: {exc}")
    return None
