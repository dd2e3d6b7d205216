"""Gathering: lays the code of a worker's first steps side by side in memory.

Each call of a function writes to its code, which a forked worker pays with a copy of the page. Where the code is loaded, it
lies between what is never called.
"""
from __future__ import annotations

import sys
from types import CodeType, FrameType, FunctionType
from typing import Any, Callable, Dict, Iterator, List

PACKAGE = "pypool_worker."
# of which all is gathered: they run around a fork, which cannot be rehearsed
AROUND_A_FORK = {PACKAGE + name for name in ("control", "main", "native", "rebirth", "template")}
_replaced: List[CodeType] = []  # some are still running: a worker that came back from one would take it apart
COPIES = 3  # the last one counts: those before it go into gaps between other objects


def gather(play: Callable[[], object]) -> None:
    """Of this package, what `play` calls. Not while the application has a profiler, which could tell."""
    if _is_profiled():
        return
    called = _called_by(play)
    functions = [function for function in _functions()
                 if id(function.__code__) in called or function.__module__ in AROUND_A_FORK]
    _replaced.extend(function.__code__ for function in functions)
    copies = [[function.__code__.replace() for function in functions] for _ in range(COPIES)]
    for function, code in zip(functions, copies[-1]):
        function.__code__ = code


def _is_profiled() -> bool:
    if sys.getprofile() is not None:
        return True
    monitoring: Any = getattr(sys, "monitoring", None)  # which cProfile uses since Python 3.12
    return monitoring is not None and monitoring.get_tool(monitoring.PROFILER_ID) is not None


def _called_by(play: Callable[[], object]) -> Dict[int, CodeType]:
    """By id: equal code of two functions is not the same."""
    called: Dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            called[id(frame.f_code)] = frame.f_code

    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(None)
    return called


def _functions() -> Iterator[FunctionType]:
    """Of this package, as far as it is loaded: those of modules and of their classes."""
    for name, module in list(sys.modules.items()):
        if not name.startswith(PACKAGE):
            continue
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != name:
                continue  # imported from elsewhere
            for member in [value, *vars(value).values()] if isinstance(value, type) else [value]:
                if type(member) is FunctionType and member.__module__ == name:
                    yield member
