"""A client of pypoold, the daemon that runs Python calls in a pool of worker processes. See docs/client-python.md."""

from .aio import AsyncClient, AsyncLease
from .client import Client, Lease, Pending
from .errors import ConnectionLost, Executed, PypoolError

__all__ = ["AsyncClient", "AsyncLease", "Client", "ConnectionLost", "Executed", "Lease", "Pending", "PypoolError"]
