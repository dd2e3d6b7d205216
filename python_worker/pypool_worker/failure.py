"""A failure: an exception told in data that can always be sent, whatever the exception does when it is looked at."""
from __future__ import annotations

import errno
import os
import traceback
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

MESSAGE_MAX = 4 * 1024
TRACEBACK_MAX = 64 * 1024
NAME_MAX = 200
FRAMES_MAX = 1000
BRIEF = 300
CAUSES_MAX = 3
IMPORTERS_MAX = 8

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DEMO = _PACKAGE + "demo.py"
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_IMPORTLIB = _STDLIB + "importlib" + os.sep
_INSTALLED = (_STDLIB + "site-packages" + os.sep, _STDLIB + "dist-packages" + os.sep)


class Failure:
    """What a person needs to know about an exception. Plain, bounded text: valid UTF-8 everywhere."""

    __slots__ = ("type", "module", "message", "file", "line", "traceback", "importers", "causes", "hint")

    def __init__(self, exc: BaseException, traceback_max: int = TRACEBACK_MAX) -> None:
        """Never raises, and takes no reference to the exception."""
        tb = _without_our_frames(exc.__traceback__)
        syntax_place = _syntax_place(exc)
        place = syntax_place or _innermost_user_frame(tb)
        self.type = safe_text(_name_of(exc, "__qualname__"), NAME_MAX)
        self.module = safe_text(_name_of(exc, "__module__"), NAME_MAX)
        self.message = safe_text(_message_of(exc), MESSAGE_MAX)
        self.file = None if place is None else safe_text(place[0], MESSAGE_MAX)
        self.line = None if place is None else place[1]
        self.traceback = safe_text(_formatted(exc, tb), traceback_max)
        self.importers = [(safe_text(file, BRIEF), line) for file, line in _importers(tb, syntax_place is not None)]
        self.causes = [safe_text(told, 2 * BRIEF) for told in _causes(exc)]
        self.hint = ""

    def look_for_hint(self, exc: BaseException, own: Sequence[str] = (), path: Sequence[str] = ()) -> None:
        """What helps against it, where its own words do not say. `own`: the pool's modules, searched for in `path`."""
        if isinstance(exc, OSError) and exc.errno == errno.EMFILE:
            self.hint = _files_hint()  # without a file that would have to be opened
        elif isinstance(exc, (ImportError, MemoryError, NameError, AttributeError)) or is_refused_process(exc):
            try:
                from pypool_worker.hint import hint_for  # here: most workers never need it
            except BaseException:  # no memory
                return
            self.hint = safe_text(hint_for(exc, self.traceback, own, path), MESSAGE_MAX)

    def summary(self) -> str:
        """One sentence: `ValueError: no such order, app.py line 5`, and how it came to that."""
        told = f"{self.type}: {self.message}" if self.message else self.type
        imported = "".join(f", imported by {_short_place(file, line)}" for file, line in self.importers)
        return f"{told}{self.where(', ')}{imported}{''.join(self.causes)}{'; ' if self.hint else ''}{self.hint}"

    def where(self, before: str) -> str:
        return f"{before}{_short_place(self.file, self.line)}" if self.file else ""

    def as_map(self) -> Dict[str, Any]:
        told: Dict[str, Any] = {"type": self.type, "module": self.module, "message": self.message}
        if self.file is not None:
            told.update(file=self.file, line=self.line)
        if self.importers:
            told["imported_by"] = [{"file": file, "line": line} for file, line in self.importers]
        told["traceback"] = self.traceback
        return told


def safe_text(text: str, limit: int) -> str:
    """At most about `limit` bytes of UTF-8, both ends kept, lone surrogates escaped. Never raises for any str."""
    if len(text) > 4 * limit:  # before encoding: the text may be gigabytes
        text = str.__getitem__(text, slice(0, 2 * limit)) + str.__getitem__(text, slice(-2 * limit, None))
    raw = str.encode(text, "utf-8", "backslashreplace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    head, tail = raw[:limit // 2], raw[-(limit // 2):]
    return f"{head.decode('utf-8', 'ignore')}\n... left out ...\n{tail.decode('utf-8', 'ignore')}"


def _short_place(file: str, line: Optional[int]) -> str:
    directory, name = os.path.split(file)
    if name.startswith("__"):  # __init__.py: there are many of them
        name = f"{os.path.basename(directory)}/{name}"
    return f"{name} line {line}"


def _name_of(exc: BaseException, attribute: str) -> str:
    try:
        name = getattr(type(exc), attribute, None)
    except BaseException:
        name = None
    return name if isinstance(name, str) else "?"


def _message_of(exc: BaseException) -> str:
    if isinstance(exc, SyntaxError) and isinstance(exc.msg, str):
        return exc.msg  # str() repeats file and line, which stand beside it
    try:
        return str(exc)
    except BaseException as broken:
        return f"(its str() raised {type(broken).__name__})"


def _formatted(exc: BaseException, tb: Optional[TracebackType]) -> str:
    limit = None if sum(1 for _ in _frames(tb)) <= FRAMES_MAX else -FRAMES_MAX
    try:
        return "".join(traceback.format_exception(type(exc), exc, tb, limit=limit))
    except BaseException:
        pass
    try:
        return "".join(traceback.format_tb(tb, limit=limit)) + f"{_name_of(exc, '__qualname__')}: {_message_of(exc)}\n"
    except BaseException as broken:
        return f"(the traceback cannot be formatted: {type(broken).__name__})"


def _frames(tb: Optional[TracebackType]) -> Iterator[Tuple[str, int]]:
    while tb is not None:
        yield tb.tb_frame.f_code.co_filename, tb.tb_lineno or 0
        tb = tb.tb_next


def _importers(tb: Optional[TracebackType], for_syntax: bool) -> List[Tuple[str, int]]:
    """Who imported the module that failed, innermost first: each frame that the first frame of a module follows."""
    frames = []
    while tb is not None:
        if not _is_machinery(tb.tb_frame.f_code.co_filename):
            frames.append((tb.tb_frame.f_code.co_name, tb.tb_frame.f_code.co_filename, tb.tb_lineno or 0))
        tb = tb.tb_next
    names = [name for name, _, _ in frames[1:]] + (["<module>"] if for_syntax else [])
    found = [frame[1:] for frame, inner in zip(frames, names) if inner == "<module>"]
    return found[:-IMPORTERS_MAX - 1:-1]


def _causes(exc: BaseException) -> List[str]:
    """What it was raised from or while handling, in the words that a summary ends with."""
    told: List[str] = []
    try:
        while len(told) < CAUSES_MAX:
            inner, how = exc.__cause__, "caused by"
            if inner is None and not exc.__suppress_context__:
                inner, how = exc.__context__, "raised while handling"
            if inner is None:
                break
            place = _syntax_place(inner) or _innermost_user_frame(_without_our_frames(inner.__traceback__))
            message = safe_text(_message_of(inner), BRIEF)
            told.append(f", {how} {safe_text(_name_of(inner, '__qualname__'), NAME_MAX)}{': ' if message else ''}{message}"
                        + (f", {_short_place(*place)}" if place else ""))
            exc = inner
    except BaseException:
        pass  # an exception whose own attributes raise
    return told


def is_refused_process(exc: BaseException) -> bool:
    """It may be that the kernel allowed no further process or thread."""
    if isinstance(exc, OSError):
        return exc.errno == errno.EAGAIN
    return isinstance(exc, RuntimeError) and exc.args == ("can't start new thread",)


def _files_hint() -> str:
    return f"the worker has all the {os.sysconf('SC_OPEN_MAX')} files open that limit_nofile of the pool allows"


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) and file != _DEMO


def _without_our_frames(tb: Optional[TracebackType]) -> Optional[TracebackType]:
    while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _is_machinery(file: str) -> bool:
    return _is_ours(file) or file.startswith("<frozen ") or file.startswith(_IMPORTLIB)


def _innermost_user_frame(tb: Optional[TracebackType]) -> Optional[Tuple[str, int]]:
    """Where the application was when it happened: the last frame outside of Python's own library, if there is any."""
    last = last_in_library = None
    for file, line in _frames(tb):
        if _is_machinery(file):
            continue
        last_in_library = (file, line)
        if not file.startswith(_STDLIB) or file.startswith(_INSTALLED):
            last = (file, line)
    return last or last_in_library


def _syntax_place(exc: BaseException) -> Optional[Tuple[str, int]]:
    if not isinstance(exc, SyntaxError) or not isinstance(exc.filename, str) or exc.filename.startswith("<"):
        return None
    return exc.filename, exc.lineno if isinstance(exc.lineno, int) else 0
