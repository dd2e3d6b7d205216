"""The end of a session: the application's hooks see its values for the last time."""
from __future__ import annotations

import traceback
from typing import Any, Callable, List, Sequence, Tuple, Type

from pypool_worker.codec import Codec
from pypool_worker.copies import Copy
from pypool_worker.session import Session

Hooks = Sequence[Callable[[Session], Any]]


def closing_session(copy: Copy, codec: Codec) -> Session:
    """What the hooks are given: only to be read."""
    return Session(copy, codec, "the session is closed: its values can be read and not written any more")


def run_close_hooks(hooks: Hooks, session: Session, interrupts: Tuple[Type[BaseException], ...] = ()) -> None:
    """Last registered first. One that raises keeps no other from running; the first exception is raised at the end, the
    others are told on stderr. One of `interrupts` ends it at once."""
    first: List[BaseException] = []
    for hook in reversed(hooks):
        try:
            hook(session)
        except interrupts:
            raise
        except BaseException as exc:
            if first:
                traceback.print_exc()
            first.append(exc)
    if first:
        raise first[0]


def close_all(hooks: Hooks, copies: Sequence[Copy], codec: Codec) -> None:
    """When the worker leaves: what is raised is told on stderr."""
    for copy in copies if hooks else ():
        try:
            run_close_hooks(hooks, closing_session(copy, codec))
        except BaseException:
            traceback.print_exc()
