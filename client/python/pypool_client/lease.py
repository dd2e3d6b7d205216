"""A lease of the blocking client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import params

if TYPE_CHECKING:
    from .client import Client


@dataclass(frozen=True)
class Lease:
    """A leased worker."""

    client: Client = field(repr=False)
    id: int
    worker: int  # its number
    pid: int
    generation: int  # of the pool's code
    expires_ms: int | None  # from the checkout; None: no limit
    direct: bool = False  # calls go straight to the worker

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
        return self.client._execute(sent, params.patience(limit))

    def checkin(self) -> None:
        self.client.checkin(self)
