"""The client for asyncio. Any number of calls may be in flight; cancelling a task cancels its call at the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from . import params
from .address import attempts, default_path
from .aio_events import AsyncEventQueue, AsyncEvents
from .aio_session import AsyncSession
from .daemon_link import DaemonLink
from .direct import DirectLink
from .errors import ConnectionLost, PypoolError
from .link import Call, Link


class AsyncClient:
    """One connection to the daemon, in the event loop in which connect() runs.

    path: None for $PYPOOL_SOCKET, else the default. name: what `pypoolctl clients` shows. timeout: of every call that
    names none, in seconds; None: the daemon's own limits. Not connected until connect(), or entered by `async with`.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, name: str | None = None, timeout: float | None = None
    ) -> None:
        params.milliseconds("timeout", timeout)
        self.path = default_path() if path is None else os.fspath(path)
        self.name = name
        self.timeout = timeout
        self.hello: dict[str, Any] = {}  # the daemon's answer: version, max_frame, role, pools, ...
        # called with what the daemon says of a lease that ended unasked: lease, worker, reason, message, perhaps cause
        self.on_lease_lost: Callable[[dict[str, Any]], None] | None = None
        self._link: DaemonLink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: AsyncEventQueue | None = None

    # ---- the connection

    async def connect(self, timeout: float = 10.0) -> AsyncClient:
        """Connect and say hello; does nothing when connected. While nobody listens on the socket, or its backlog is
        full, tries again for `timeout` seconds (0: tries once). Raises ConnectionLost. May be called again after a loss."""
        if self._link is not None and os.getpid() != self._link.pid:
            self._link.check()
        if self.connected:
            return self
        deadline = time.monotonic() + timeout
        for step in attempts(self.path, deadline):
            if isinstance(step, socket.socket):
                self._start(DaemonLink(step))
            else:
                await asyncio.sleep(step)
        try:
            left = max(params.HELLO_PATIENCE, deadline - time.monotonic())
            self.hello = await self.call("hello", timeout=left, **params.hello(self.name))
            self._usable().max_frame = params.max_frame(self.hello)
        except BaseException as e:
            self.close()
            if isinstance(e, PypoolError):
                raise params.refused(e) from None
            raise
        return self

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.lost is None

    def close(self) -> None:
        """Disconnect; the daemon cancels what is in flight and ends the leases. May be called at any time."""
        if self._link is not None:
            self._link.lose("connection_lost", "closed by this client")

    async def __aenter__(self) -> AsyncClient:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- calls

    async def execute(
        self,
        target: str,
        /,
        *args: Any,
        pool: str | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        lease: int | AsyncLease | None = None,
        session: str | None = None,
        open: bool = True,
        meta: bool = False,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call a handler with positional or keyword arguments and return its result. Raises PypoolError.

        timeout: seconds until the answer, waiting for a worker included. queue_timeout: the most of it that may go by
        before a worker starts. lease: run on this leased worker. session: a call of this session; open=False: it must
        be there already. meta: return {value, meta} instead.
        idempotent: it may be run a second time if its worker is lost and its handler is marked so too.
        """
        number = lease.id if isinstance(lease, AsyncLease) else lease
        limit = self.timeout if timeout is None else timeout
        sent = params.execute(
            target, args, kwargs, pool, limit, queue_timeout, number, meta, idempotent, session, open
        )
        return await self._execute(sent, params.patience(limit))

    async def call(self, method: str, /, *, timeout: float | None = None, **kwargs: Any) -> Any:
        """Any method of the protocol with its params as they are: client.call("logs", lines=10). Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        params.milliseconds("timeout", limit)
        return await self._request(method, params.without_none(**kwargs), limit)

    async def ping(self, timeout: float | None = None) -> None:
        """Ask the daemon itself for a sign of life. Raises PypoolError."""
        await self.call("ping", timeout=timeout)

    async def cancel(self, call: int) -> bool:
        """Cancel a call of the same user by its daemon-wide number, as `queue` shows it; False: there is none."""
        return bool(await self.call("cancel", call=call))

    # ---- leases

    async def checkout(
        self,
        pool: str | None = None,
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        session: str | None = None,
        direct: bool = False,
    ) -> AsyncLease:
        """Lease a worker: no other calls run on it until checkin(), ttl (seconds) or the end of the connection.
        timeout: how long to wait for one. session: the worker of this session. direct: calls under the lease go
        straight to the worker, over a socket of their own. Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        sent = params.checkout(pool, limit, ttl, session, direct)
        return AsyncLease(self, **params.lease_fields(await self._request("checkout", sent, params.patience(limit))))

    async def checkin(self, lease: int | AsyncLease) -> None:
        """Give a leased worker back. Raises PypoolError."""
        await self.call("checkin", lease=lease.id if isinstance(lease, AsyncLease) else lease)

    @contextlib.asynccontextmanager
    async def lease(
        self,
        pool: str | None = None,
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        session: str | None = None,
        direct: bool = False,
    ) -> AsyncIterator[AsyncLease]:
        """checkout() for an `async with` block. A lease that has ended by itself is no error at its end."""
        lease = await self.checkout(pool, timeout=timeout, ttl=ttl, session=session, direct=direct)
        try:
            yield lease
        finally:
            with params.forgiving():
                await self.checkin(lease)

    # ---- sessions

    def session(self, name: str, pool: str | None = None) -> AsyncSession:
        """A session by its name. Asks the daemon nothing: the first call opens it."""
        return AsyncSession(self, name, pool)

    # ---- events

    def events(self, *kinds: str, pools: Sequence[str] | None = None) -> AsyncEvents:
        """What happens in the daemon, for `async with` and `async for`. kinds: none for all but "output", the lines that workers
        print; pools: of these. There is one at a time: another takes its place."""
        return AsyncEvents(self, kinds, pools)

    async def _begin_events(self, queue: AsyncEventQueue, sent: dict[str, Any]) -> None:
        def note(answer: Any) -> None:  # at once: what comes behind the answer is of this subscription
            self._take_events(queue)
            queue.begin(answer)

        await self._ask(self._usable(), "subscribe", sent, self.timeout, note)

    def _take_events(self, queue: AsyncEventQueue | None) -> None:
        if self._events is not None:
            self._events.over = True
            self._events.news.set()
        self._events = queue

    async def _end_events(self, queue: AsyncEventQueue) -> None:
        if queue.over:
            return
        self._take_events(None)
        if self.connected:
            with contextlib.suppress(ConnectionLost):
                await self.call("subscribe", kinds=[])

    # ---- how

    def _usable(self) -> DaemonLink:
        if self._link is None:
            raise ConnectionLost("connection_lost", "not connected: call connect() first")
        self._link.check()
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this client was connected in another event loop")
        return self._link

    def _start(self, link: DaemonLink) -> None:
        self._link, self._loop = link, asyncio.get_running_loop()
        link.on_news = self._note_news
        link.on_direct = self._watch_direct
        self._watch(link)

    def _watch(self, link: Link) -> None:
        assert self._loop is not None
        link.on_lost = self._unwatch
        self._loop.add_reader(link.sock, self._on_readable, link)

    def _watch_direct(self, link: DirectLink) -> None:
        link.on_waiting = self._expire_direct
        self._watch(link)

    def _expire_direct(self, link: DirectLink) -> None:
        """In a while, unless the daemon says before why the lease has ended."""
        assert self._loop is not None
        self._loop.call_later(params.GRACE + 0.001, link.expire)  # a little later than it is due, never before

    def _unwatch(self, link: Link) -> None:
        assert self._loop is not None
        if self._events is not None and link is self._link:
            self._events.news.set()
        # a child shares the epoll with its parent: removing there would remove here
        if os.getpid() == link.pid and not self._loop.is_closed():
            self._loop.remove_reader(link.sock)
            self._loop.remove_writer(link.sock)

    def _note_news(self, method: str, news: dict[str, Any]) -> None:
        if method == "lease_lost" and self.on_lease_lost is not None:
            assert self._loop is not None
            self._loop.call_soon(self.on_lease_lost, news)
        elif method == "event" and self._events is not None:
            self._events.add(news)

    def _on_readable(self, link: Link) -> None:
        link.read()
        self._flush(link)

    def _flush(self, link: Link) -> None:
        """Send what can be sent, and the rest when there is room."""
        if isinstance(link, DirectLink) and link.home.wants_write:
            self._flush(link.home)
        if link.lost is None:
            link.write()
        if link.lost is not None or link.wants_write == link.watched:
            return
        assert self._loop is not None
        link.watched = link.wants_write
        if link.watched:
            self._loop.add_writer(link.sock, self._flush, link)
        else:
            self._loop.remove_writer(link.sock)

    def _route(self, sent: dict[str, Any]) -> tuple[Link, dict[str, Any]]:
        """The link that an execute with these params takes, and what it takes of them."""
        link = self._usable()
        lease = link.leases.get(sent["lease"]) if "lease" in sent else None
        return (link, sent) if lease is None else (lease, params.direct(sent))

    async def _execute(self, sent: dict[str, Any], patience: float | None) -> Any:
        link, sent = self._route(sent)
        return await self._ask(link, "execute", sent, patience)

    async def _request(self, method: str, sent: dict[str, Any], patience: float | None) -> Any:
        return await self._ask(self._usable(), method, sent, patience)

    async def _ask(
        self, link: Link, method: str, sent: dict[str, Any], patience: float | None, note: Callable[[Any], None] | None = None
    ) -> Any:
        """note: called with the result when it is read, before anything that comes after it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def finish(error: PypoolError | None, value: Any) -> None:
            if future.done():
                return
            if error is None and note is not None:
                note(value)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        call = link.submit(method, sent, finish)
        self._flush(link)
        timer = None if patience is None else loop.call_later(patience, self._expire, link, call, finish)
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(link, call, future)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, link: Link, call: Call, finish: Any) -> None:
        finish(params.overdue(link.abandon(call)), None)
        self._flush(link)

    def _withdraw(self, link: Link, call: Call, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            link.abandon(call)
        elif future.done() and future.exception() is None:  # cancelled between the answer and its taking
            link.give_back(call.method, future.result())
        self._flush(link)


@dataclass(frozen=True)
class AsyncLease:
    """A leased worker."""

    client: AsyncClient = field(repr=False)
    id: int
    worker: int  # its number
    pid: int
    generation: int  # of the pool's code
    expires_ms: int | None  # from the checkout; None: no limit
    direct: bool = False  # calls go straight to the worker

    async def execute(
        self,
        target: str,
        /,
        *args: Any,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        meta: bool = False,
        **kwargs: Any,
    ) -> Any:
        """AsyncClient.execute() on this worker."""
        limit = self.client.timeout if timeout is None else timeout
        sent = params.execute(target, args, kwargs, None, limit, queue_timeout, self.id, meta, False)
        return await self.client._execute(sent, params.patience(limit))

    async def checkin(self) -> None:
        await self.client.checkin(self)
