"""Bootstrap: imports the application, runs its hooks, and reports each phase and any failure to the daemon."""
from __future__ import annotations

import importlib
import sys
import traceback
from typing import Optional

from pypool_worker.control import TEXT_MAX, Control, Init
from pypool_worker.failure import Failure
from pypool_worker.output import complain, flush_output
from pypool_worker.registry import Registry
from pypool_worker.targets import Targets


class InitFailed(Exception):
    """The application could not be brought up; the daemon and stderr know why."""


class Bootstrap:
    """One start of the application. User code runs in here, so everything that it raises is caught in here."""

    def __init__(self, init: Init, control: Control, registry: Registry) -> None:
        self._init = init
        self._control = control
        self._registry = registry
        self._phase = "imports"

    def run(self) -> Optional[Targets]:
        """None when the daemon said stop meanwhile. Raises InitFailed, after the failure has been reported."""
        sys.path[:0] = self._init.path
        sys.argv = [self._init.app]
        try:
            targets = self._import_all()
            if self._control.stopping:
                return None
            self._registry.seal()
            self._warm_up()
        except BaseException as exc:
            self._report(exc)
            raise InitFailed from None
        return targets

    def _import_all(self) -> Targets:
        targets = Targets(self._init.app, self._init.modules)
        for name in [self._init.app, *self._init.modules]:
            if self._control.stopping:
                break
            self._control.phase("imports", name)
            known = len(self._registry.handlers)
            importlib.import_module(name)
            targets.add(self._registry.handlers[known:], name)
        if not targets.names():
            complain(f"{self._init.app} exposes nothing: put @expose on the functions that may be called")
        return targets

    def _warm_up(self) -> None:
        self._phase = "warmup"
        self._control.phase("warmup")
        for hook in self._registry.start_hooks:
            hook()
        if self._init.warmup:
            module, _, function = self._init.warmup.partition(":")
            getattr(importlib.import_module(module), function)()

    def _report(self, exc: BaseException) -> None:
        failure = Failure(exc, TEXT_MAX)
        failure.look_for_hint(exc, [self._init.app, *self._init.modules], self._init.path)
        flush_output()
        print(failure.traceback, end="", file=sys.stderr)
        if failure.hint:
            complain(failure.hint)
        flush_output()
        self._control.failed(self._phase, {"summary": failure.summary(), **failure.as_map()})


def run_stop_hooks(registry: Registry) -> None:
    """Last registered first. A hook that fails is told on stderr and keeps no other from running."""
    for hook in reversed(registry.stop_hooks):
        try:
            hook()
        except BaseException:
            traceback.print_exc()
