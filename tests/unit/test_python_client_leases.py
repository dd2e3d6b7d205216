"""Leases of the Python client."""

from __future__ import annotations

import asyncio

import pytest
from pypool_client import AsyncClient, Client, PypoolError

from tests.support.fake_daemon import Peer
from tests.support.python_client import LEASE, Serve, error_of, greeted, run


def test_a_lease_is_checked_in_at_the_end_of_its_block(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, sent = peer.request("checkout")
        assert sent == {"type": "anonymous", "pool": "p", "timeout_ms": 1000, "ttl_ms": 5000}
        peer.answer(number, LEASE)
        number, sent = peer.request("execute")
        assert sent == {"target": "f", "args": {"pool": 1}, "lease": 7, "timeout_ms": 2000}
        peer.answer(number, "leased")
        number, sent = peer.request("checkin")
        assert sent == {"lease": 7}
        peer.answer(number, True)
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        with client.lease("p", timeout=1, ttl=5) as lease:
            assert (lease.id, lease.worker, lease.pid, lease.generation, lease.expires_ms) == (7, 3, 812, 1, 60000)
            assert lease.execute("f", pool=1, timeout=2) == "leased"


def test_an_async_lease_is_checked_in_when_its_task_is_cancelled(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        number, sent = peer.request("execute")
        assert sent["lease"] == 7
        peer.answer(peer.request("cancel")[0], True)
        peer.answer(number, error={"code": "cancelled", "message": "m", "executed": "maybe"})
        number, sent = peer.request("checkin")
        assert sent == {"lease": 7}
        peer.answer(number, True)
        peer.wait_end()

    async def work(client: AsyncClient) -> None:
        async with client.lease() as lease:
            await lease.execute("f")

    async def use() -> None:
        async with AsyncClient(path) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work(client), 1.0)

    path = serve(greeted(script))
    run(use())


@pytest.mark.parametrize("code", ["lease_expired", "lease_not_found", None])
def test_a_lease_that_has_ended_by_itself_ends_its_block_in_peace(serve: Serve, code: str | None) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        number, _ = peer.request("checkin")
        if code is not None:
            peer.answer(number, error={"code": code, "message": "m", "executed": "never"})

    with Client(serve(greeted(script))) as client:
        with client.lease():
            pass


def test_another_failure_at_the_end_of_a_lease_is_told(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], LEASE)
        peer.answer(peer.request("checkin")[0], error={"code": "internal", "message": "m", "executed": "maybe"})

    with Client(serve(greeted(script))) as client:
        with pytest.raises(PypoolError, match="internal"):
            with client.lease():
                pass


def test_an_answer_to_checkout_that_is_none_is_told(serve: Serve) -> None:
    with Client(serve(greeted(lambda peer: peer.answer(peer.request("checkout")[0], True)))) as client:
        assert error_of(client.checkout).code == "bad_reply"
