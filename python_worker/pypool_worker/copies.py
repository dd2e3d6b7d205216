"""The copies: what this worker has of the sessions that it has served, encoded as it came. The daemon decides what is
current, and keeps the values themselves."""
from __future__ import annotations

import threading
from typing import Any, Dict, Iterable, List, Set, Tuple

from pypool_worker.errors import BadRequest


class Copy:
    """One session. Main thread only; never empty by itself: whoever takes it out of the table leaves it whole."""

    __slots__ = ("name", "send", "bound", "values", "foreign")

    def __init__(self, name: str, send: int, bound: bool, values: Dict[str, bytes]) -> None:
        self.name = name
        self.send = send
        self.bound = bound
        self.values = values
        self.foreign: Set[str] = set(values)  # keys of what was not encoded here

    def apply(self, changed: Dict[str, bytes], deleted: Iterable[str]) -> None:
        """What a call that succeeded has written."""
        self.values.update(changed)
        self.foreign.difference_update(changed)
        for key in deleted:
            del self.values[key]
            self.foreign.discard(key)


class Copies:
    """By the number of the session. The control thread only forgets; all else is for the main thread."""

    def __init__(self) -> None:
        self._copies: Dict[int, Copy] = {}
        self._replacing = threading.Lock()

    def take(self, told: Any) -> Copy:
        """The copy for a call with this `session`, after what came with it. Raises BadRequest, and MissingCopy."""
        number, name, send, bound = _checked(told)
        values = told.get("values")
        if values is not None:
            copy = Copy(name, send, bound, values)
            with self._replacing:
                self._copies[number] = copy
            return copy
        found = self._copies.get(number)
        if found is None:
            raise MissingCopy(f"worker without the values of session {name!r}, which were not sent with the call")
        found.send, found.bound = send, bound
        return found

    def forget(self, number: int, send: int) -> None:
        """Of the control thread: the session has ended, or was at home elsewhere since it was last sent here."""
        with self._replacing:
            copy = self._copies.get(number)
            if copy is not None and copy.send <= send:
                del self._copies[number]

    def drop(self, told: Any) -> None:
        """The session is closed."""
        with self._replacing:
            self._copies.pop(told["id"], None)

    def bound(self) -> List[Copy]:
        """Those whose only worker this is."""
        with self._replacing:
            return [copy for copy in self._copies.values() if copy.bound]


class MissingCopy(Exception):
    """The daemon takes for current what is not there."""


def _checked(told: Any) -> Tuple[int, str, int, bool]:
    try:
        number, name, send, bound = told["id"], told["name"], told["send"], told["bound"]
    except (TypeError, KeyError):
        number = None
    if type(number) is int and type(name) is str and type(send) is int and type(bound) is bool:
        return number, name, send, bound
    raise BadRequest("session must be a map of id, name, send, bound and values")
