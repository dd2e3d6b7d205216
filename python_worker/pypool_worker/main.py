"""main(): puts the worker together, in the order in which docs/worker-protocol.md wants it to appear."""
from __future__ import annotations

import os
import signal
import sys
from typing import Optional

from pypool_worker.bootstrap import Bootstrap, InitFailed, run_stop_hooks
from pypool_worker.channel import Channel
from pypool_worker.closing import close_all
from pypool_worker.codec import Codec, load_codec
from pypool_worker.control import Control, Init
from pypool_worker.copies import Copies
from pypool_worker.dump import Dump
from pypool_worker.errors import ProtocolError
from pypool_worker.fork import guard_forks
from pypool_worker.handover import Handover
from pypool_worker.interrupt import Interrupt, map_page
from pypool_worker.output import complain, configure_output, flush_output, release_output
from pypool_worker.place import Place
from pypool_worker.registry import registry
from pypool_worker.runner import Runner

CALLS, CONTROL, DUMP, PAGE = 3, 4, 5, 6
FDS = (CALLS, CONTROL, DUMP, PAGE)
EXIT_USAGE = 2


class Worker:
    """The parts of this process and how they hang together."""

    def __init__(self, codec: Codec) -> None:
        """OSError or ValueError when the descriptors are not those that the daemon gives."""
        for fd in FDS:
            os.set_inheritable(fd, False)
        os.set_blocking(CALLS, True)
        os.set_blocking(CONTROL, True)
        self._codec = codec
        self._interrupt = Interrupt(map_page(PAGE))
        self._dump = Dump(DUMP)
        self._channel = Channel(CALLS)
        self._copies = Copies()
        self._handover = Handover()
        self._control = Control(CONTROL, codec, self._channel.stop_reading, self._copies.forget, self._handover.put)
        self._pid = os.getpid()

    def run(self, started_ns: int) -> int:
        """From hello to the exit code."""
        self._dump.install()
        self._interrupt.install()
        signal.signal(signal.SIGINT, _leave_it_to_the_daemon)
        guard_forks([self._channel.abandon, self._control.abandon, self._dump.abandon, self._handover.abandon], FDS)
        self._control.hello(started_ns, "%d.%d.%d" % sys.version_info[:3])
        self._control.start()
        init = self._control.wait_init()
        return 0 if init is None else self._run_app(init)

    def _run_app(self, init: Init) -> int:
        try:
            targets = Bootstrap(init, self._control, registry).run()
        except InitFailed:
            flush_output()
            os._exit(1)  # not sys.exit: threads that the half-imported application started would be waited for
        if targets is None:
            return 0
        if not self._control.stopping:
            hooks = registry.session_close_hooks
            self._control.ready(targets.names(), targets.idempotent(), bool(hooks))
            place = Place(self._codec, targets, self._interrupt, self._dump, init)
            self._serve(Runner(self._channel, place, self._copies, hooks, self._handover))
            close_all(hooks, self._copies.bound(), self._codec)
        run_stop_hooks(registry)
        release_output()
        return 0

    def _serve(self, runner: Runner) -> None:
        try:
            runner.serve()
        except (OSError, ProtocolError) as exc:
            self._give_up(exc)

    def _give_up(self, exc: Exception) -> None:
        if os.getpid() != self._pid:
            complain("a child that a handler forked came back from the handler: it must end with os._exit()")
        else:
            complain(f"the call channel failed, the worker ends: {exc}"
                     + (" (a handler closed or changed descriptor 3)" if isinstance(exc, OSError) else ""))
        os._exit(1)


def main(started_ns: int, fallback: str) -> int:
    """Runs a worker on descriptors 3 to 6. Returns the exit code."""
    configure_output()
    worker = _make_worker(fallback)
    return EXIT_USAGE if worker is None else worker.run(started_ns)


def _make_worker(fallback: str) -> Optional[Worker]:
    try:
        return Worker(load_codec(fallback))
    except ImportError as exc:
        complain(f"msgpack cannot be imported by {sys.executable}, nor from {fallback}: {exc}")
    except (OSError, ValueError) as exc:
        complain(f"this is started by pypoold, which provides descriptors 3 to 6: {exc}")
    return None


def _leave_it_to_the_daemon(_signo: int, _frame: object) -> None:
    """Ctrl-C in the daemon's terminal reaches its workers too; they leave when it says so."""
