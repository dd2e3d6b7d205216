"""A client of pypoold, the daemon that runs Python calls in a pool of worker processes. See docs/client-python.md."""

from .aio import AsyncClient, AsyncLease
from .aio_session import AsyncSession
from .client import Client, Lease, Pending
from .errors import ConnectionLost, Executed, PypoolError
from .session import Session

__all__ = [
    "AsyncClient", "AsyncLease", "AsyncSession", "Client", "ConnectionLost", "Executed", "Lease", "Pending",
    "PypoolError", "Session",
]
