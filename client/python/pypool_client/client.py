"""The blocking client."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from . import params
from .address import attempts, default_path
from .daemon_link import DaemonLink
from .direct import DirectLink
from .errors import ConnectionLost, PypoolError
from .events import Events, wanted
from .lease import Lease
from .link import Call, Link
from .session import Session


class Pending:
    """A call in flight, from Client.submit()."""

    def __init__(self, client: Client, link: Link, patience: float | None) -> None:
        self._client = client
        self._link = link
        self._deadline = None if patience is None else time.monotonic() + patience
        self._call: Call | None = None
        self._done = False
        self._error: PypoolError | None = None
        self._value: Any = None

    def _finish(self, error: PypoolError | None, value: Any) -> None:
        self._done, self._error, self._value = True, error, value

    def done(self) -> bool:
        """Whether the answer is there. Does not block."""
        if not self._done:
            with self._client._turn(self._link):
                for link in _together(self._link):
                    link.write()
                    link.read()
                if isinstance(self._link, DirectLink):
                    self._link.expire()
        return self._done

    def result(self) -> Any:
        """Wait for the answer. Raises PypoolError."""
        if not self._done:
            with self._client._turn(self._link):
                self._client._wait(self)
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> bool:
        """Ask the daemon to cancel the call; False: it was answered already. result() still has to be told the end.

        A call under a direct lease is cancelled at once, and the lease ends if its worker has the call in hand."""
        if self._done or self._call is None:
            return False
        if not isinstance(self._link, DirectLink):
            return bool(self._client.call("cancel", id=self._call.id))
        with self._client._turn(self._link):
            self._finish(PypoolError("cancelled", "cancelled by this client", self._link.abandon(self._call)), None)
            self._link.home.write()
        return True


def _together(link: Link) -> list[Link]:
    """Those that are read while one waits for an answer of `link`."""
    links = [link, link.home] if isinstance(link, DirectLink) else [link]
    return [one for one in links if one.lost is None]


class Client:
    """One connection to the daemon.

    path: None for $PYPOOL_SOCKET, else the default. name: what `pypoolctl clients` shows. timeout: of every call that
    names none, in seconds; None: the daemon's own limits. For one thread at a time: another one that comes in between
    gets the error `busy`. Not connected until connect(), or entered as a context manager.
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
        self._lock = threading.Lock()
        self._news: deque[dict[str, Any]] = deque()
        self._events: Events | None = None

    # ---- the connection

    def connect(self, timeout: float = 10.0) -> Client:
        """Connect and say hello; does nothing when connected. While nobody listens on the socket, or its backlog is
        full, tries again for `timeout` seconds (0: tries once). Raises ConnectionLost. May be called again after a loss."""
        if self._link is not None and os.getpid() != self._link.pid:
            self._link.check()
        if self.connected:
            return self
        deadline = time.monotonic() + timeout
        for step in attempts(self.path, deadline):
            if isinstance(step, socket.socket):
                self._link = DaemonLink(step)
                self._link.on_news = self._note_news
            else:
                time.sleep(step)
        try:
            left = max(params.HELLO_PATIENCE, deadline - time.monotonic())
            self.hello = self.call("hello", timeout=left, **params.hello(self.name))
            self._usable().max_frame = params.max_frame(self.hello)
        except BaseException as e:
            self.close()
            if isinstance(e, PypoolError):
                raise params.refused(e) from None
            raise
        return self

    @property
    def connected(self) -> bool:
        """False after a loss, but a loss is only noticed by using the connection."""
        return self._link is not None and self._link.lost is None

    def close(self) -> None:
        """Disconnect; the daemon cancels what is in flight and ends the leases. May be called at any time."""
        if self._link is not None:
            self._link.lose("connection_lost", "closed by this client")

    def __enter__(self) -> Client:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- calls

    def execute(
        self,
        target: str,
        /,
        *args: Any,
        pool: str | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        lease: int | Lease | None = None,
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
        number = lease.id if isinstance(lease, Lease) else lease
        limit = self.timeout if timeout is None else timeout
        sent = params.execute(
            target, args, kwargs, pool, limit, queue_timeout, number, meta, idempotent, session, open
        )
        return self._execute(sent, params.patience(limit))

    def submit(
        self,
        target: str,
        /,
        *args: Any,
        pool: str | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        lease: int | Lease | None = None,
        session: str | None = None,
        open: bool = True,
        meta: bool = False,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Pending:
        """Start what execute() does, without waiting. Many calls may be in flight; result() waits for one of them."""
        number = lease.id if isinstance(lease, Lease) else lease
        limit = self.timeout if timeout is None else timeout
        sent = params.execute(
            target, args, kwargs, pool, limit, queue_timeout, number, meta, idempotent, session, open
        )
        link, sent = self._route(sent)
        with self._turn(link):
            return self._submit(link, "execute", sent, params.patience(limit))

    def call(self, method: str, /, *, timeout: float | None = None, **kwargs: Any) -> Any:
        """Any method of the protocol with its params as they are: client.call("logs", lines=10). Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        params.milliseconds("timeout", limit)
        return self._request(method, params.without_none(**kwargs), limit)

    def ping(self, timeout: float | None = None) -> None:
        """Ask the daemon itself for a sign of life. Raises PypoolError."""
        self.call("ping", timeout=timeout)

    def cancel(self, call: int) -> bool:
        """Cancel a call of the same user by its daemon-wide number, as `queue` shows it; False: there is none."""
        return bool(self.call("cancel", call=call))

    # ---- leases

    def checkout(
        self,
        pool: str | None = None,
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        session: str | None = None,
        direct: bool = False,
    ) -> Lease:
        """Lease a worker: no other calls run on it until checkin(), ttl (seconds) or the end of the connection.
        timeout: how long to wait for one. session: the worker of this session. direct: calls under the lease go
        straight to the worker, over a socket of their own. Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        sent = params.checkout(pool, limit, ttl, session, direct)
        return Lease(self, **params.lease_fields(self._request("checkout", sent, params.patience(limit))))

    def checkin(self, lease: int | Lease) -> None:
        """Give a leased worker back. Raises PypoolError."""
        self.call("checkin", lease=lease.id if isinstance(lease, Lease) else lease)

    @contextlib.contextmanager
    def lease(
        self,
        pool: str | None = None,
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        session: str | None = None,
        direct: bool = False,
    ) -> Iterator[Lease]:
        """checkout() for a `with` block. A lease that has ended by itself is no error at its end."""
        lease = self.checkout(pool, timeout=timeout, ttl=ttl, session=session, direct=direct)
        try:
            yield lease
        finally:
            with params.forgiving():
                self.checkin(lease)

    # ---- sessions

    def session(self, name: str, pool: str | None = None) -> Session:
        """A session by its name. Asks the daemon nothing: the first call opens it."""
        return Session(self, name, pool)

    # ---- events

    def events(self, *kinds: str, pools: Sequence[str] | None = None, timeout: float | None = None) -> Events:
        """What happens in the daemon from now on. kinds: none for all but "output", the lines that workers print; pools: of
        these. There is one at a time: another takes its place. Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        params.milliseconds("timeout", limit)
        return Events(self, wanted(kinds, pools), limit)

    # ---- how

    def _note_news(self, method: str, news: dict[str, Any]) -> None:
        if method == "lease_lost" and self.on_lease_lost is not None:
            self._news.append(news)
        elif method == "event" and self._events is not None:
            self._events._queue.add(news)

    def _tell_news(self) -> None:
        """Outside of any turn: who is told may call."""
        while self._news:
            news = self._news.popleft()
            if self.on_lease_lost is not None:
                self.on_lease_lost(news)

    def _route(self, sent: dict[str, Any]) -> tuple[Link, dict[str, Any]]:
        """The link that an execute with these params takes, and what it takes of them."""
        link = self._usable()
        lease = link.leases.get(sent["lease"]) if "lease" in sent else None
        return (link, sent) if lease is None else (lease, params.direct(sent))

    def _execute(self, sent: dict[str, Any], patience: float | None) -> Any:
        link, sent = self._route(sent)
        return self._ask(link, "execute", sent, patience)

    def _usable(self) -> DaemonLink:
        if self._link is None:
            raise ConnectionLost("connection_lost", "not connected: call connect() first")
        self._link.check()
        return self._link

    @contextlib.contextmanager
    def _turn(self, link: Link) -> Iterator[Link]:
        if os.getpid() != link.pid:
            link.check()
        if not self._lock.acquire(blocking=False):
            raise PypoolError("busy", "another thread uses this client; each needs one of its own")
        try:
            yield link
        finally:
            self._lock.release()
        if self._news:
            self._tell_news()

    def _submit(self, link: Link, method: str, sent: dict[str, Any], patience: float | None) -> Pending:
        pending = Pending(self, link, patience)
        pending._call = link.submit(method, sent, pending._finish)
        if link.lost is None:
            link.write()
        return pending

    def _request(self, method: str, sent: dict[str, Any], patience: float | None) -> Any:
        return self._ask(self._usable(), method, sent, patience)

    def _ask(self, link: Link, method: str, sent: dict[str, Any], patience: float | None) -> Any:
        with self._turn(link):
            pending = self._submit(link, method, sent, patience)
            self._wait(pending)
        if pending._error is not None:
            raise pending._error
        return pending._value

    def _wait(self, pending: Pending) -> None:
        """Until the call is finished. It is abandoned when its time is over, or this wait is interrupted."""
        link, call = pending._link, pending._call
        assert call is not None
        try:
            while not pending._done:
                left = None if pending._deadline is None else pending._deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                if isinstance(link, DirectLink) and link.told_by is not None:
                    told_in = max(0.0, link.told_by - time.monotonic())
                    left = told_in if left is None else min(left, told_in)
                self._turn_once(_together(link), left)
                if isinstance(link, DirectLink):
                    link.expire()
        except BaseException:
            if pending._done and pending._error is None:
                link.give_back(call.method, pending._value)
            elif not pending._done:
                interrupted = PypoolError("cancelled", "the wait for the answer was interrupted", link.abandon(call))
                pending._finish(interrupted, None)
            self._flush(link)
            raise
        if not pending._done:
            pending._finish(params.overdue(link.abandon(call)), None)
            self._flush(link)

    def _turn_once(self, links: list[Link], left: float | None) -> None:
        """Wait until one of them is ready, and do what can be done there."""
        poll = select.poll()
        for link in links:
            # reads while it sends: the daemon may wait for us to take its replies
            poll.register(link.sock, select.POLLIN | (select.POLLOUT if link.wants_write else 0))
        ready = {fd for fd, _ in poll.poll(None if left is None else left * 1000)}
        for link in links:
            if link.lost is None and link.sock.fileno() in ready:
                link.write()
                if link.lost is None:
                    link.read()

    def _flush(self, link: Link) -> None:
        for one in _together(link):
            one.write()
        if isinstance(link, DirectLink) and link.home.lost is None:
            link.home.write()
