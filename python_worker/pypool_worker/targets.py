"""The targets: what clients may call, by name. Nothing else can be reached: no attribute is ever walked."""
from __future__ import annotations

import sys
from typing import Callable, Dict, Iterable, List, Optional

from pypool_worker.registry import Handler

LISTED_MAX = 20
SHOWN_MAX = 100


class Targets:
    """Handlers of the app by `name`, those of other listed modules by `module:name`."""

    def __init__(self, app: str, modules: Iterable[str]) -> None:
        self._app = app
        self._modules = frozenset(modules) - {app}
        self._handlers: Dict[str, Handler] = {}
        self.find: Callable[[str], Optional[Handler]] = self._handlers.get

    def add(self, handlers: Iterable[Handler], importing: str) -> None:
        """Takes what was exposed while the module `importing` was imported. A listed module keeps its names to itself,
        whoever imports it first. ValueError when a name is taken by another function."""
        for handler in handlers:
            owner = handler.module if handler.module in self._modules else importing
            target = handler.name if owner == self._app else f"{owner}:{handler.name}"
            taken = self._handlers.setdefault(target, handler)
            if taken.function is not handler.function:
                raise ValueError(f"{target!r} is exposed twice: {taken.place()} and {handler.place()}")

    def names(self) -> List[str]:
        return sorted(self._handlers)

    def idempotent(self) -> List[str]:
        """Those that may be run again after a worker was lost."""
        return sorted(name for name, handler in self._handlers.items() if handler.idempotent)

    def explain_unknown(self, target: str) -> str:
        """What to tell a caller who asked for a target that does not exist."""
        told = f"no handler {_shown(target)} in {self._app}"
        forgotten = self._not_exposed(target)
        if forgotten:
            return f"{told}: the function exists but is not exposed; put @expose on it in {forgotten}"
        if not self._handlers:
            return f"{told}: it exposes nothing; put @expose on its functions"
        near = self._near(target)
        if near:
            told += f", did you mean {' or '.join(near)}"
        names = self.names()
        more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
        return f"{told}; exposed: {', '.join(names[:LISTED_MAX])}{more}"

    def _near(self, target: str) -> List[str]:
        import difflib  # here: only callers who are wrong need it

        return difflib.get_close_matches(target[:SHOWN_MAX], self._handlers, n=3)

    def _not_exposed(self, target: str) -> Optional[str]:
        """The module, when it defines a public function of that name itself."""
        module_name, _, name = target.rpartition(":")
        module_name = module_name or self._app
        if module_name != self._app and module_name not in self._modules or name.startswith("_"):
            return None
        function = vars(sys.modules.get(module_name, object)).get(name)
        written_in = getattr(function, "__module__", None)
        return module_name if hasattr(function, "__code__") and written_in == module_name else None


def _shown(target: str) -> str:
    return repr(target if len(target) <= SHOWN_MAX else target[:SHOWN_MAX] + "...")
