"""What the tests of the Python client against a fake daemon share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pypool_client import AsyncClient, Client, PypoolError

from tests.support.fake_daemon import Peer, Script


LEASE = {"lease": 7, "worker": 3, "pid": 812, "generation": 1, "expires_ms": 60000}

Serve = Callable[..., Path]


def greeted(rest: Script) -> Script:
    def script(peer: Peer) -> None:
        peer.greet()
        rest(peer)

    return script


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


class Asynchronous:
    """The blocking client's interface over an AsyncClient, so that one test is for both."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = AsyncClient(path, **options)

    def __enter__(self) -> Asynchronous:
        try:
            self.loop.run_until_complete(self.client.connect())
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(self, *unused: Any) -> None:
        self.client.close()
        self.loop.close()

    @property
    def hello(self) -> dict[str, Any]:
        return self.client.hello

    @property
    def connected(self) -> bool:
        return self.client.connected

    def close(self) -> None:
        self.client.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *a, **k: self.loop.run_until_complete(asyncio.wait_for(getattr(self.client, name)(*a, **k), 30))


BOTH = pytest.mark.parametrize("make", [Client, Asynchronous])
Make = Callable[..., Any]


def error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> PypoolError:
    with pytest.raises(PypoolError) as caught:
        function(*args, **kwargs)
    return caught.value
