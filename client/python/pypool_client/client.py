"""The blocking client."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from . import params
from .address import attempts, default_path
from .errors import ConnectionLost, PypoolError
from .link import Call, Link


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
            with self._client._turn(self._link) as link:
                link.write()
                link.read()
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
        """Ask the daemon to cancel the call; False: it was answered already. result() still has to be told the end."""
        if self._done or self._call is None:
            return False
        return bool(self._client.call("cancel", id=self._call.id))


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
        self._link: Link | None = None
        self._lock = threading.Lock()

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
                self._link = Link(step)
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
        meta: bool = False,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call a handler with positional or keyword arguments and return its result. Raises PypoolError.

        timeout: seconds until the answer, waiting for a worker included. queue_timeout: the most of it that may go by
        before a worker starts. lease: run on this leased worker. meta: return {value, meta} instead.
        idempotent: it may be run a second time if its worker is lost and its handler is marked so too.
        """
        number = lease.id if isinstance(lease, Lease) else lease
        limit = self.timeout if timeout is None else timeout
        sent = params.execute(target, args, kwargs, pool, limit, queue_timeout, number, meta, idempotent)
        return self._request("execute", sent, params.patience(limit))

    def submit(
        self,
        target: str,
        /,
        *args: Any,
        pool: str | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        lease: int | Lease | None = None,
        meta: bool = False,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Pending:
        """Start what execute() does, without waiting. Many calls may be in flight; result() waits for one of them."""
        number = lease.id if isinstance(lease, Lease) else lease
        limit = self.timeout if timeout is None else timeout
        sent = params.execute(target, args, kwargs, pool, limit, queue_timeout, number, meta, idempotent)
        with self._turn(self._usable()) as link:
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

    def checkout(self, pool: str | None = None, *, timeout: float | None = None, ttl: float | None = None) -> Lease:
        """Lease a worker: no other calls run on it until checkin(), ttl (seconds) or the end of the connection.
        timeout: how long to wait for one. Raises PypoolError."""
        limit = self.timeout if timeout is None else timeout
        answer = self._request("checkout", params.checkout(pool, limit, ttl), params.patience(limit))
        return Lease(self, **params.lease_fields(answer))

    def checkin(self, lease: int | Lease) -> None:
        """Give a leased worker back. Raises PypoolError."""
        self.call("checkin", lease=lease.id if isinstance(lease, Lease) else lease)

    @contextlib.contextmanager
    def lease(
        self, pool: str | None = None, *, timeout: float | None = None, ttl: float | None = None
    ) -> Iterator[Lease]:
        """checkout() for a `with` block. A lease that has ended by itself is no error at its end."""
        lease = self.checkout(pool, timeout=timeout, ttl=ttl)
        try:
            yield lease
        finally:
            with params.forgiving():
                self.checkin(lease)

    # ---- how

    def _usable(self) -> Link:
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

    def _submit(self, link: Link, method: str, sent: dict[str, Any], patience: float | None) -> Pending:
        pending = Pending(self, link, patience)
        pending._call = link.submit(method, sent, pending._finish)
        link.write()
        return pending

    def _request(self, method: str, sent: dict[str, Any], patience: float | None) -> Any:
        with self._turn(self._usable()) as link:
            pending = self._submit(link, method, sent, patience)
            self._wait(pending)
        if pending._error is not None:
            raise pending._error
        return pending._value

    def _wait(self, pending: Pending) -> None:
        """Until the call is finished. It is abandoned when its time is over, or this wait is interrupted."""
        link, call = pending._link, pending._call
        assert call is not None
        poll = select.poll()
        try:
            while not pending._done:
                # reads while it sends: the daemon may wait for us to take its replies
                poll.register(link.sock, select.POLLIN | (select.POLLOUT if link.wants_write else 0))
                left = None if pending._deadline is None else pending._deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                poll.poll(None if left is None else left * 1000)
                link.write()
                if not pending._done:
                    link.read()
        except BaseException:
            if pending._done and pending._error is None:
                link.give_back(call.method, pending._value)
            elif not pending._done:
                interrupted = PypoolError("cancelled", "the wait for the answer was interrupted", link.abandon(call))
                pending._finish(interrupted, None)
            link.write()
            raise
        if not pending._done:
            pending._finish(params.overdue(link.abandon(call)), None)
            link.write()


@dataclass(frozen=True)
class Lease:
    """A leased worker."""

    client: Client = field(repr=False)
    id: int
    worker: int  # its number
    pid: int
    generation: int  # of the pool's code
    expires_ms: int  # from the checkout

    def execute(
        self,
        target: str,
        /,
        *args: Any,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        meta: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Client.execute() on this worker."""
        limit = self.client.timeout if timeout is None else timeout
        sent = params.execute(target, args, kwargs, None, limit, queue_timeout, self.id, meta, False)
        return self.client._request("execute", sent, params.patience(limit))

    def checkin(self) -> None:
        self.client.checkin(self)
