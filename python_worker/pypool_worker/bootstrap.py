"""Bootstrap: imports the application, runs its hooks, and reports each phase and any failure to the daemon."""
from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, Callable, Optional, Sequence, TypeVar

from pypool_worker.control import TEXT_MAX, Control, Init
from pypool_worker.failure import Failure
from pypool_worker.output import complain, flush_output
from pypool_worker.registry import Registry
from pypool_worker.targets import Targets

T = TypeVar("T")


class InitFailed(Exception):
    """The application could not be brought up; the daemon and stderr know why."""


class Bootstrap:
    """One start of the application. User code runs in here, so everything that it raises is caught in here."""

    def __init__(self, init: Init, control: Control, registry: Registry) -> None:
        self._init = init
        self._control = control
        self._registry = registry
        self._phase = ""

    def load(self) -> Optional[Targets]:
        """What a template does once for all its workers, and any other worker for itself: imports and warm-up.

        None when the daemon said stop meanwhile. Raises InitFailed, after the failure has been reported.
        """
        sys.path[:0] = self._init.path
        sys.argv = [self._init.app]
        return self._reporting(self._load)

    def start(self, forked: bool) -> None:
        """What each worker does for itself: its hooks. Raises InitFailed, after the failure has been reported."""
        if forked and self._registry.after_fork_hooks:
            self._reporting(self._run_hooks, "after_fork", self._registry.after_fork_hooks)
        if self._registry.start_hooks:
            self._reporting(self._run_hooks, "start", self._registry.start_hooks)

    def _load(self) -> Optional[Targets]:
        known = len(self._registry.handlers)
        for name in self._init.preload:
            if self._control.stopping:
                return None
            self._import("preload", name)
        targets = Targets(self._init.app, self._init.modules)
        for name in [self._init.app, *self._init.modules]:
            if self._control.stopping:
                return None
            self._import("imports", name)
            targets.add(self._registry.handlers[known:], name)  # the app's are also those that were preloaded
            known = len(self._registry.handlers)
        if not targets.names():
            complain(f"{self._init.app} exposes nothing: put @expose on the functions that may be called")
        self._registry.seal()
        if self._init.warmup and not self._control.stopping:
            self._warm_up(self._init.warmup)
        return None if self._control.stopping else targets

    def _import(self, phase: str, module: str) -> None:
        self._begin(phase, module)
        importlib.import_module(module)

    def _warm_up(self, warmup: str) -> None:
        self._begin("warmup")
        module, _, function = warmup.partition(":")
        getattr(importlib.import_module(module), function)()

    def _run_hooks(self, phase: str, hooks: Sequence[Callable[[], Any]]) -> None:
        self._begin(phase)
        for hook in hooks:
            hook()

    def _begin(self, phase: str, module: Optional[str] = None) -> None:
        self._phase = phase
        self._control.phase(phase, module)

    def _reporting(self, step: Callable[..., T], *args: Any) -> T:
        try:
            return step(*args)
        except BaseException as exc:
            self._report(exc)
            raise InitFailed from None

    def _report(self, exc: BaseException) -> None:
        failure = Failure(exc, TEXT_MAX)
        failure.look_for_hint(exc, [*self._init.preload, self._init.app, *self._init.modules], self._init.path)
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
