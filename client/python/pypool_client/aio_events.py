"""What the daemon tells as it happens, for the client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .events import EventQueue, wanted

if TYPE_CHECKING:
    from .aio import AsyncClient


class AsyncEventQueue(EventQueue):
    """Wakes who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def add(self, event: dict[str, Any]) -> None:
        super().add(event)
        self.news.set()


class AsyncEvents:
    """Events for `async for`, each a dict of `kind`, `what`, `time_ms`, mostly `pool`, and more by kind; with `dropped` when some
    were lost before it. `async with` begins to listen; else the first step does."""

    def __init__(self, client: AsyncClient, kinds: Sequence[str], pools: Sequence[str] | None) -> None:
        self._client = client
        self._params = wanted(kinds, pools)
        self._queue: AsyncEventQueue | None = None

    @property
    def kinds(self) -> list[str]:
        """That are told, once it listens."""
        return [] if self._queue is None else self._queue.kinds

    @property
    def pools(self) -> list[str]:
        """That are told of, once it listens."""
        return [] if self._queue is None else self._queue.pools

    def __aiter__(self) -> AsyncEvents:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """Wait for the next one. Raises ConnectionLost, and PypoolError when nothing can be listened to; ends after close(), and
        when another events() has taken its place."""
        if self._queue is None:
            await self.__aenter__()
        queue = self._queue
        assert queue is not None
        while True:
            event = queue.take()
            if event is not None:
                return event
            if queue.over:
                raise StopAsyncIteration
            self._client._usable()  # lost: it raises
            queue.news.clear()
            await queue.news.wait()

    async def close(self) -> None:
        """Hear nothing more; what has come and was not taken is dropped. May be called again, and after a loss."""
        if self._queue is not None:
            await self._client._end_events(self._queue)

    async def __aenter__(self) -> AsyncEvents:
        queue = AsyncEventQueue()
        await self._client._begin_events(queue, self._params)
        self._queue = queue
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
