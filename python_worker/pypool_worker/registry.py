"""The registry: which functions the application has exposed, and its hooks, in the order in which it did so.

The one piece of state of this package that lives in a module: decorators have nobody who could hand it to them.
"""
from __future__ import annotations

import os
from typing import Any, Callable, List, Optional, TypeVar, Union, overload

from pypool_worker.output import complain
from pypool_worker.session import Session

F = TypeVar("F", bound=Callable[..., Any])
Hook = TypeVar("Hook", bound=Callable[[], Any])
SessionHook = TypeVar("SessionHook", bound=Callable[[Session], Any])

NAME_MAX = 200

# inspect.CO_*; importing inspect costs each worker's start several ms.
CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Handler:
    """A function under the name by which it may be called."""

    __slots__ = ("name", "function", "module", "file", "line", "idempotent")

    def __init__(self, name: str, function: Callable[..., Any], idempotent: bool) -> None:
        code = getattr(function, "__code__", None)
        self.name = name
        self.function = function
        self.module = str(getattr(function, "__module__", None) or type(function).__module__)
        self.file: Optional[str] = getattr(code, "co_filename", None)
        self.line: Optional[int] = getattr(code, "co_firstlineno", None)
        self.idempotent = idempotent

    def place(self) -> str:
        """Where it is written, for messages."""
        return f"{self.file} line {self.line}" if self.file else f"module {self.module}"

    def brief(self) -> str:
        """The same for who knows the application: `price in shop.py line 12`."""
        return f"{self.name} in {os.path.basename(self.file)} line {self.line}" if self.file else (
            f"{self.name} in module {self.module}")


class Registry:
    """Handlers and hooks as they were registered."""

    def __init__(self) -> None:
        self.handlers: List[Handler] = []
        self.start_hooks: List[Callable[[], Any]] = []
        self.after_fork_hooks: List[Callable[[], Any]] = []
        self.stop_hooks: List[Callable[[], Any]] = []
        self.session_close_hooks: List[Callable[[Session], Any]] = []
        self._sealed = False

    def seal(self) -> None:
        """From now on the set of targets stays as it is: all workers of a pool must offer the same."""
        self._sealed = True

    def add(self, handler: Handler) -> None:
        if self._sealed:
            complain(f"{handler.name!r} ({handler.place()}) was exposed after the start and cannot be called; import "
                     "its module from the application")
            return
        self.handlers.append(handler)


registry = Registry()


@overload
def expose(function: F) -> F: ...


@overload
def expose(*, name: Optional[str] = None, stream: bool = False, idempotent: bool = False) -> Callable[[F], F]: ...


def expose(function: Optional[F] = None, *, name: Optional[str] = None, stream: bool = False,
           idempotent: bool = False) -> Union[F, Callable[[F], F]]:
    """Lets clients call the function, which stays as it is. `@expose`, or `@expose(name="orders.create")`.

    What is exposed while the pool's `app` is imported, there or in modules that it imports, may be called by its name
    alone; what a module listed in the pool's `modules` exposes, as `module:name`. `idempotent`: the function may be run
    again after a worker was lost.

    Raises TypeError for `async def` (call asyncio.run() inside an ordinary function instead: the worker keeps no event
    loop, and one would cost every call), for generators and for stream=True (not available yet), ValueError for a name
    that cannot be one.
    """
    if stream:
        raise TypeError("expose(stream=True) is not available in this version: return a list")

    def register(target: F) -> F:
        _refuse_unusable(target)
        registry.add(Handler(_name_for(target, name), target, idempotent))
        return target

    return register if function is None else register(function)


def on_start(hook: Hook) -> Hook:
    """Runs the function once per worker, after imports and warm-up and before the first call. An exception fails the
    worker."""
    _check_hook(hook, "on_start")
    registry.start_hooks.append(hook)
    return hook


def after_fork(hook: Hook) -> Hook:
    """Runs the function once in each worker that was forked from a template, before the `on_start` hooks; in no other.
    An exception fails the worker."""
    _check_hook(hook, "after_fork")
    registry.after_fork_hooks.append(hook)
    return hook


def on_stop(hook: Hook) -> Hook:
    """Runs the function when the worker is told to leave, last registered first. Not after a crash or a kill."""
    _check_hook(hook, "on_stop")
    registry.stop_hooks.append(hook)
    return hook


def on_session_close(hook: SessionHook) -> SessionHook:
    """Runs the function with the session, whose values it may read, when the session is closed, and when the worker
    that it is bound to is told to leave; last registered first. Not after a crash or a kill."""
    _check_hook(hook, "on_session_close", "a function that takes the session")
    registry.session_close_hooks.append(hook)
    return hook


def _check_hook(hook: object, what: str, goes_on: str = "a function without arguments") -> None:
    if not callable(hook):
        raise TypeError(f"@{what} goes on {goes_on}, not on {type(hook).__name__}")


def _refuse_unusable(function: Callable[..., Any]) -> None:
    if not callable(function):
        raise TypeError(f"expose needs a function, not {type(function).__name__}; options are keywords: "
                        "@expose(name=...); under @staticmethod put @expose below it")
    inner: Any = function
    while hasattr(inner, "func"):  # functools.partial
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(getattr(type(inner), "__call__", None), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        raise TypeError(f"{_spoken(function)} is async: handlers are ordinary functions; call asyncio.run() inside one")
    if flags & CO_GENERATOR:
        raise TypeError(f"{_spoken(function)} is a generator, and streams are not available yet: return a list")


def _name_for(function: Callable[..., Any], name: Optional[str]) -> str:
    chosen = getattr(function, "__name__", None) if name is None else name
    if not isinstance(chosen, str) or chosen == "<lambda>":
        raise ValueError(f"{_spoken(function)} needs a name: expose(name=...)")
    if not chosen or len(chosen) > NAME_MAX or not chosen.isprintable() or ":" in chosen:
        raise ValueError(f"{chosen[:NAME_MAX]!r} cannot be the name of a handler: 1 to {NAME_MAX} printable "
                         "characters, no colon")
    return chosen


def _spoken(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
