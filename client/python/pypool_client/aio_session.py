"""A session of the client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import params

if TYPE_CHECKING:
    from .aio import AsyncClient


@dataclass(frozen=True)
class AsyncSession:
    """Calls that run one after the other and share values which the daemon keeps. Every method may raise PypoolError:
    session_lost when its worker is gone (open() takes it up again), session_busy while another connection leases it."""

    client: AsyncClient = field(repr=False)
    name: str
    pool: str | None = None

    async def execute(
        self,
        target: str,
        /,
        *args: Any,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        open: bool = True,
        meta: bool = False,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Any:
        """AsyncClient.execute() as a call of this session. open=False: it must be there already."""
        limit = self.client.timeout if timeout is None else timeout
        sent = params.execute(
            target, args, kwargs, self.pool, limit, queue_timeout, None, meta, idempotent, self.name, open
        )
        return await self.client._execute(sent, params.patience(limit))

    async def open(
        self, *, reset: bool = False, ttl: float | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Open it, or take it up again after it was lost. reset: without its values. ttl: seconds that it lives without
        being used. Returns what the daemon knows of it: opened, worker, generation, expires_ms, keys, bytes."""
        ttl_ms = params.milliseconds("ttl", ttl)
        state = await self._call("session.open", timeout, reset=reset or None, ttl_ms=ttl_ms)
        return dict(state)

    async def get(self, key: str | None = None, *, timeout: float | None = None) -> Any:
        """The value under key as it is committed now, None when there is none; without a key a dict of all."""
        return await self._call("session.get", timeout, key=key)

    async def put(
        self,
        values: Mapping[str, Any],
        *,
        open: bool = True,
        timeout: float | None = None,
        queue_timeout: float | None = None,
    ) -> None:
        """Write values, all of them or none, in turn with the calls of the session."""
        limit = self.client.timeout if timeout is None else timeout
        sent = params.session_put(self.name, self.pool, dict(values), open, limit, queue_timeout)
        await self.client._request("session.put", sent, params.patience(limit))

    async def delete(self, *keys: str, timeout: float | None = None, queue_timeout: float | None = None) -> int:
        """Remove values, in turn with the calls of the session; how many there were."""
        limit = self.client.timeout if timeout is None else timeout
        sent = params.session_delete(self.name, self.pool, keys, limit, queue_timeout)
        return int(await self.client._request("session.delete", sent, params.patience(limit)))

    async def close(self, *, timeout: float | None = None) -> bool:
        """End it, behind its calls that wait; False: there was none."""
        return bool(await self._call("session.close", timeout))

    async def _call(self, method: str, timeout: float | None, **more: Any) -> Any:
        return await self.client.call(method, timeout=timeout, session=self.name, pool=self.pool, **more)
