"""What the daemon tells as it happens, for the blocking client."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import ConnectionLost, PypoolError
from .params import without_none

if TYPE_CHECKING:
    from .client import Client

WAITING_MAX = 10_000  # events that nobody has taken


def wanted(kinds: Sequence[str], pools: Sequence[str] | None) -> dict[str, Any]:
    """The params of subscribe."""
    return without_none(kinds=list(kinds) or None, pools=None if pools is None else list(pools))


class EventQueue:
    """Events that have come and have not been taken: so many at the most, the rest is counted."""

    def __init__(self) -> None:
        self.kinds: list[str] = []  # that are told, as the daemon has answered
        self.pools: list[str] = []
        self.over = False  # closed, or another subscription has taken its place
        self._waiting: deque[dict[str, Any]] = deque()
        self._lost = 0  # since the last that was kept

    def begin(self, answer: Any) -> None:
        """The daemon has agreed."""
        if isinstance(answer, dict):
            self.kinds = list(answer.get("kinds", ()))
            self.pools = list(answer.get("pools", ()))

    def add(self, event: dict[str, Any]) -> None:
        """One has come."""
        dropped = event.get("dropped")
        lost = self._lost + (dropped if isinstance(dropped, int) else 0)
        if len(self._waiting) >= WAITING_MAX:
            self._lost = lost + 1
            return
        self._lost = 0
        self._waiting.append({**event, "dropped": lost} if lost else event)

    def take(self) -> dict[str, Any] | None:
        return self._waiting.popleft() if self._waiting else None


class Events:
    """Iterates over events, each a dict of `kind`, `what`, `time_ms`, mostly `pool`, and more by kind; with `dropped` when some
    were lost before it. They are read while one waits for them, and by every other call of the client in between."""

    def __init__(self, client: Client, sent: dict[str, Any], patience: float | None) -> None:
        """Subscribes. For Client.events()."""
        self._client = client
        self._queue = EventQueue()
        link = client._usable()
        with client._turn(link):
            pending = client._submit(link, "subscribe", sent, patience)

            def finish(error: PypoolError | None, answer: Any) -> None:
                if error is None:  # at once: what comes behind the answer is of this subscription
                    self._take_place(self)
                    self._queue.begin(answer)
                pending._finish(error, answer)

            if pending._call is not None:
                pending._call.finish = finish
            client._wait(pending)
        pending.result()

    def _take_place(self, of: Events | None) -> None:
        if self._client._events is not None:
            self._client._events._queue.over = True
        self._client._events = of

    @property
    def kinds(self) -> list[str]:
        """That are told."""
        return self._queue.kinds

    @property
    def pools(self) -> list[str]:
        """That are told of."""
        return self._queue.pools

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> dict[str, Any]:
        """Wait for the next one. Raises ConnectionLost; ends after close(), and when another events() has taken its place."""
        event = self.wait()
        if event is None:
            raise StopIteration
        return event

    def wait(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next one; None when none comes within `timeout` seconds, or no more will. Raises ConnectionLost."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._queue.take()
            if event is not None or self._queue.over or (deadline is not None and time.monotonic() >= deadline):
                return event
            self._read(deadline)

    def _read(self, deadline: float | None) -> None:
        """Wait until something comes, or the time is over. Raises ConnectionLost."""
        client = self._client
        link = client._usable()
        with client._turn(link):
            client._turn_once([link], None if deadline is None else max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Hear nothing more; what has come and was not taken is dropped. May be called again, and after a loss."""
        if self._queue.over:
            return
        self._take_place(None)
        if self._client.connected:
            with contextlib.suppress(ConnectionLost):
                self._client.call("subscribe", kinds=[])

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
