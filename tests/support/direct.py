"""Direct leases: a checkout that brings a socket, and calls over it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tests.support.client import Client


class Direct:
    """A direct lease of `holder`. Its calls go through `worker`, a client of the worker itself; leaving the block closes that
    socket, which gives the lease back."""

    def __init__(self, holder: Client, **params: Any) -> None:
        self.holder = holder
        self.reply: dict[str, Any] = holder.call("checkout", type="anonymous", direct=True, **params)
        assert self.reply["fds"] == 1
        self.lease: int = self.reply["lease"]
        self.pid: int = self.reply["pid"]
        self.number: int = self.reply["worker"]
        self.worker = Client(holder.take_socket(), hello=False, timeout=holder.timeout)

    def __enter__(self) -> Direct:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.close()

    def checkin(self) -> None:
        assert self.holder.call("checkin", lease=self.lease) is True

    def wait_lost(self) -> dict[str, Any]:
        """The notification that it has ended."""
        name, params = self.holder.wait_notification()
        assert name == "lease_lost" and params[0]["lease"] == self.lease, params
        news: dict[str, Any] = params[0]
        return news
