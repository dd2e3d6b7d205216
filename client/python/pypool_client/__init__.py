"""A client of pypoold, the daemon that runs Python calls in a pool of worker processes. See docs/client-python.md."""

from .aio import AsyncClient, AsyncLease
from .aio_events import AsyncEvents
from .aio_session import AsyncSession
from .client import Client, Pending
from .errors import ConnectionLost, Executed, PypoolError
from .events import Events
from .lease import Lease
from .session import Session

__all__ = [
    "AsyncClient", "AsyncEvents", "AsyncLease", "AsyncSession", "Client", "ConnectionLost", "Events", "Executed", "Lease",
    "Pending", "PypoolError", "Session",
]
