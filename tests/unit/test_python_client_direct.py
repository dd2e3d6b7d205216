"""Direct leases of the Python client, blocking and asynchronous, against a fake daemon and its workers."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import Any

import pytest
from pypool_client import AsyncClient, Client, ConnectionLost, PypoolError

from tests.support.fake_daemon import Peer
from tests.support.waiting import eventually
from tests.support.python_client import BOTH, LEASE, Make, Serve, error_of, greeted, run

LOST = {"lease": 7, "worker": 3, "reason": "worker_died", "message": "lease 7 has ended: worker 3 was killed",
        "cause": {"signal": 9}}


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def checked_in(peer: Peer) -> None:
    number, sent = peer.request("checkin")
    assert sent == {"lease": 7}
    peer.answer(number, True)


def given_up(peer: Peer) -> None:
    """The client waits for no answer."""
    assert peer.request("checkin")[1] == {"lease": 7}


@BOTH
def test_calls_of_a_direct_lease_go_over_its_own_socket(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        for expected in (
            {"target": "f", "args": [1]},
            {"target": "f", "args": []},
            {"target": "f", "args": {"a": 1}, "timeout_ms": 2000, "meta": True},
        ):
            number, sent = worker.request("execute")
            assert sent == expected
            worker.answer(number, "direct")
        checked_in(peer)
        worker.wait_end()

    with make(serve(greeted(script))) as client:
        lease = client.checkout("p", direct=True)
        assert lease.direct and lease.id == 7
        assert client.execute("f", 1, lease=lease) == "direct"
        assert client.execute("f", lease=7, pool="p", idempotent=True) == "direct"
        assert client.execute("f", a=1, lease=7, timeout=2, queue_timeout=1, meta=True) == "direct"
        with pytest.raises(ValueError, match="session"):
            client.execute("f", lease=lease, session="cart")
        client.checkin(lease)


@BOTH
def test_a_checkout_that_brings_no_socket_is_an_ordinary_one(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request("checkout")[0], {**LEASE, "expires_ms": None})
        number, sent = peer.request("execute")
        assert sent["lease"] == 7
        peer.answer(number, 1)

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        assert not lease.direct and lease.expires_ms is None
        assert client.execute("f", lease=lease) == 1


def test_many_calls_are_answered_in_their_order(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        for _ in range(50):
            number, sent = worker.request("execute")
            worker.answer(number, sent["args"][0])
        checked_in(peer)

    async def use() -> None:
        async with AsyncClient(path) as client:
            async with client.lease(direct=True) as lease:
                assert await asyncio.gather(*(lease.execute("f", i) for i in range(50))) == list(range(50))

    path = serve(greeted(script), greeted(script))
    with Client(path) as client:
        with client.lease(direct=True) as lease:
            pending = [client.submit("f", i, lease=lease) for i in range(50)]
            assert [p.result() for p in pending] == list(range(50))
    run(use())


# ---- file descriptors


def test_fault_73_merged_messages_bring_the_right_fd_to_the_right_lease(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        numbers = [peer.request("checkout")[0] for _ in range(3)]
        ping, _ = peer.request("ping")
        pairs = [peer.pair() for _ in numbers]
        for i in (0, 2, 1):
            peer.answer_with(numbers[i], {**LEASE, "lease": 10 + i, "fds": 1}, pairs[i][0])
            if i == 0:
                peer.answer(ping, "pong")
        for i, (_, worker) in enumerate(pairs):
            worker.answer(worker.request("execute")[0], i)
        peer.wait_end()

    async def use() -> None:
        async with AsyncClient(path) as client:
            *leases, _ = await asyncio.gather(*(client.checkout(direct=True) for _ in range(3)), client.ping())
            assert [await lease.execute("f") for lease in leases] == [0, 1, 2]

    path = serve(greeted(script))
    run(use())


@BOTH
@pytest.mark.parametrize("sent,declared", [(2, 1), (253, 1), (1, 0), (0, 1), (1, 2)])
def test_fault_71_fds_that_do_not_match_the_answer_end_the_connection(
    serve: Serve, make: Make, sent: int, declared: int
) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("checkout")
        ours, theirs = peer.pair()
        answer = {**LEASE, "fds": declared} if declared else LEASE
        if sent:
            peer.answer_with(number, answer, *(ours.dup() for _ in range(sent)))
        else:
            peer.answer(number, answer)
        ours.close()
        try:
            peer.wait_end()
        except ConnectionResetError:
            pass
        assert theirs.receive() == []  # nobody has a copy of the other end

    path = serve(greeted(script))
    with make(path) as client:
        if declared:
            error = error_of(client.checkout, direct=True)
        else:
            client.checkout(direct=True)
            error = error_of(client.ping)
        assert isinstance(error, ConnectionLost) and error.code == "bad_reply"
        assert not client.connected


@BOTH
def test_fault_70_fds_nobody_asked_for_are_not_installed(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        ours, theirs = peer.pair()
        peer.answer_with(peer.request("ping")[0], "pong", ours)
        assert theirs.receive() == []
        peer.answer(peer.request("ping")[0], "pong")

    with make(serve(greeted(script))) as client:
        client.ping()
        client.ping()


def test_fault_72_fds_that_are_cut_at_the_limit_end_the_connection(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("checkout")
        ours, theirs = peer.pair()
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = ours.dup()
        free = lowest_free.fileno()
        lowest_free.close()
        body = {**LEASE, "fds": 1}
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
            peer.answer_with(number, body, ours)  # whose number is free again, below the limit
            taken = os.dup(peer.sock.fileno())
            assert peer.receive() == []
            os.close(taken)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))

    with Client(serve(greeted(script))) as client:
        error = error_of(client.checkout, direct=True)
        assert error.code == "bad_reply" and "limit of open files" in error.message


def test_a_client_leaves_no_fd_behind(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        workers = [peer.lend(7), peer.lend(8)]
        for worker in workers:
            worker.wait_end()

    path = serve(greeted(script), greeted(script))
    before = count_fds()
    with Client(path) as client:
        client.checkout(direct=True)
        client.checkout(direct=True)

    async def use() -> None:
        async with AsyncClient(path) as client:
            await client.checkout(direct=True)
            await client.checkout(direct=True)

    run(use())
    eventually(lambda: count_fds() <= before, "also the threads that serve have closed theirs")


# ---- the end of a lease


@BOTH
@pytest.mark.parametrize("news_first", [True, False])
def test_calls_are_told_why_their_lease_has_ended(serve: Serve, make: Make, news_first: bool) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        if news_first:
            peer.send([2, "lease_lost", [LOST]])
        worker.sock.close()
        if not news_first:
            peer.send([2, "lease_lost", [LOST]])
        number, sent = peer.request("execute")  # the lease is the daemon's again
        peer.answer(number, error={"code": "lease_expired", "message": "m", "executed": "never"})

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        error = error_of(client.execute, "f", lease=lease)
        assert (error.code, error.executed, error.message) == ("worker_died", "maybe", LOST["message"])
        assert error.cause == {"signal": 9}
        error = error_of(client.execute, "f", lease=lease)
        assert (error.code, error.executed) == ("lease_expired", "never")


@BOTH
def test_without_a_word_of_the_daemon_a_lease_that_ended_has_expired(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        worker.sock.close()
        peer.wait_end()

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        error = error_of(client.execute, "f", lease=lease)
        assert (error.code, error.executed) == ("lease_expired", "maybe")


@BOTH
def test_what_is_no_protocol_ends_the_lease_alone(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        worker.send_body(b"\xc1")
        worker.wait_end()
        peer.answer(peer.request("ping")[0], "pong")

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        error = error_of(client.execute, "f", lease=lease)
        assert (error.code, error.executed) == ("bad_reply", "maybe")
        client.ping()


def test_lease_lost_is_told(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.answer(peer.request("checkout")[0], LEASE)
        number, _ = peer.request("ping")
        peer.send([2, "lease_lost", [LOST]])
        peer.send([2, "unheard of", []])
        peer.answer(number, "pong")
        peer.answer(peer.request("ping")[0], "pong")

    def again(news: dict[str, Any]) -> None:
        told.append(news)
        client.ping()  # who is told may call

    async def use() -> None:
        async with AsyncClient(path) as other:
            future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            other.on_lease_lost = future.set_result
            await asyncio.gather(other.checkout(), other.checkout())
            await other.ping()
            assert await asyncio.wait_for(future, 10) == LOST
            await other.ping()

    told: list[dict[str, Any]] = []
    path = serve(greeted(script), greeted(script))
    with Client(path) as client:
        client.on_lease_lost = again
        client.checkout()
        client.checkout()
        client.ping()
        assert told == [LOST]
    run(use())


# ---- stopping


@BOTH
def test_a_worker_that_does_not_keep_a_timeout_loses_the_lease(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        given_up(peer)
        worker.wait_end()

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        error = error_of(client.execute, "f", lease=lease, timeout=0.01)
        assert (error.code, error.executed) == ("deadline_exceeded", "maybe")


def test_cancelling_the_call_that_runs_gives_the_lease_up(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        worker.request("execute")
        given_up(peer)
        worker.wait_end()

    async def use() -> None:
        async with AsyncClient(path) as client:
            lease = await client.checkout(direct=True)
            running = asyncio.create_task(lease.execute("f"))
            behind = asyncio.create_task(lease.execute("f"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(PypoolError, match="lease_expired") as caught:
                await behind
            assert caught.value.executed == "maybe"

    path = serve(greeted(script), greeted(script))
    with Client(path) as client:
        lease = client.checkout(direct=True)
        running, behind = client.submit("f", lease=lease), client.submit("f", lease=lease)
        assert running.cancel() is True
        assert running.cancel() is False
        assert error_of(running.result).code == "cancelled"
        assert error_of(behind.result).code == "lease_expired"
    run(use())


def test_cancelling_a_call_that_waits_behind_it_leaves_the_lease_alone(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        numbers = [worker.request("execute")[0] for _ in range(2)]
        for number in numbers:
            worker.answer(number, number)
        worker.answer(worker.request("execute")[0], "last")
        peer.wait_end()

    with Client(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        running, behind = client.submit("f", lease=lease), client.submit("f", lease=lease)
        assert behind.cancel() is True
        assert error_of(behind.result).executed == "maybe"
        assert running.result() == 1
        assert lease.execute("f") == "last"


def test_a_lease_that_comes_too_late_is_given_back(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        number, _ = peer.request("checkout")
        peer.answer(peer.request("cancel")[0], False)
        ours, theirs = peer.pair()
        peer.answer_with(number, {**LEASE, "fds": 1}, ours)
        peer.answer(peer.request("ping")[0], "pong")
        checked_in(peer)
        assert theirs.receive() == []
        peer.answer(peer.request("ping")[0], "pong")

    with Client(serve(greeted(script))) as client:
        assert error_of(client.checkout, direct=True, timeout=0.01).code == "deadline_exceeded"
        client.ping()
        client.ping()


@BOTH
def test_the_end_of_the_connection_is_that_of_its_leases(serve: Serve, make: Make) -> None:
    def script(peer: Peer) -> None:
        worker = peer.lend(7)
        worker.request("execute")
        peer.sock.close()
        worker.wait_end()

    with make(serve(greeted(script))) as client:
        lease = client.checkout(direct=True)
        error = error_of(client.execute, "f", lease=lease)
        assert isinstance(error, ConnectionLost) and error.executed == "maybe"
        assert isinstance(error_of(client.execute, "f", lease=lease), ConnectionLost)
