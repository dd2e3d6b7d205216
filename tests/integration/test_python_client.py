"""pypool_client against the real daemon, and the examples of docs/client-python.md."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from pypool_client import AsyncClient, Client, ConnectionLost, PypoolError

from tests.support.daemon import BUILD, DEMO, PYTHON, ROOT, SLOW, Daemon, pool
from tests.support.pythons import other_pythons
from tests.support.waiting import eventually

PAGE = (ROOT / "docs" / "client-python.md").read_text()
CLIENT = str(ROOT / "client" / "python")
ENVIRONMENT = {**os.environ, "PYTHONPATH": CLIENT, "PYTHONDONTWRITEBYTECODE": "1"}
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def queued(client: Client) -> list[dict[str, Any]]:
    calls = client.call("queue")
    assert isinstance(calls, list)
    return calls


def test_every_block_of_the_page_is_an_example() -> None:
    assert PAGE.count("```") == 2 * len(EXAMPLES) > 0


def run_example(daemon: Daemon, code: str, python: str, path: str) -> None:
    """The program says nothing and ends well."""
    environment = {**ENVIRONMENT, "PYPOOL_SOCKET": str(daemon.socket), "PYTHONPATH": path}
    command = [python, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_run(daemon: Daemon, code: str) -> None:
    run_example(daemon, code, PYTHON, CLIENT)


@pytest.mark.parametrize("python", other_pythons())
def test_other_pythons_run_the_examples_too(daemon: Daemon, python: str) -> None:
    run_example(daemon, "".join(EXAMPLES), python, f"{CLIENT}:{BUILD}/python_worker/fallback")


def test_values_go_there_and_back(daemon: Daemon) -> None:
    value: list[Any] = [None, True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00\xff", {"a": {1: []}}]
    with Client(daemon.socket) as client:
        assert client.execute("echo", value) == value
        assert client.execute("echo", value=value) == value
        assert len(client.execute("echo", b"x" * (8 << 20))) == 8 << 20


def test_the_daemon_knows_the_client_by_its_name(daemon: Daemon) -> None:
    with Client(daemon.socket, name="a test") as client:
        assert [c["name"] for c in client.call("clients")] == ["a test"]
        assert client.hello["pools"] == ["default"]


def test_a_request_over_max_frame_leaves_the_connection_alone(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO}, max_frame="64K")
    with Client(daemon.socket) as client:
        with pytest.raises(PypoolError, match="too_large.*never"):
            client.execute("echo", b"x" * 65536)
        assert client.execute("echo", 1) == 1


def test_many_large_calls_in_flight_do_not_stop_each_other(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        pending = [client.submit("echo", b"x" * (4 << 20)) for _ in range(12)]
        assert {len(p.result()) for p in pending} == {4 << 20}


def test_a_deadline_is_the_daemon_s_to_tell(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        with pytest.raises(PypoolError) as caught:
            client.execute("sleep", 60, timeout=0.3)
        assert (caught.value.code, caught.value.executed) == ("deadline_exceeded", "maybe")
        assert "time.sleep" in caught.value.message or caught.value.cause["stack"]


def test_a_submitted_call_is_cancelled(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        pending = client.submit("sleep", 60)
        eventually(lambda: [c["state"] for c in queued(client)] == ["running"], "it runs")
        assert client.cancel(queued(client)[0]["call"]) is True
        with pytest.raises(PypoolError, match="cancelled.*maybe"):
            pending.result()


def test_a_killed_worker_is_told_with_its_cause(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        with pytest.raises(PypoolError) as caught:
            client.execute("crash", 9)
        assert (caught.value.code, caught.value.executed) == ("worker_died", "maybe")
        assert caught.value.cause["signal"] == 9


def test_a_killed_daemon_is_a_connection_lost(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    with Client(daemon.socket) as client:
        pending = client.submit("sleep", 60)
        eventually(lambda: [c["state"] for c in queued(client)] == ["running"], "it runs")
        daemon.kill()
        with pytest.raises(ConnectionLost) as caught:
            pending.result()
        assert caught.value.executed == "maybe"
        with pytest.raises(ConnectionLost) as caught:
            client.execute("echo", 1)
        assert caught.value.executed == "never"
    daemon.discard()


def test_a_lease_is_exclusive_and_ends_with_its_block(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", workers=1)})
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        with client.lease(ttl=60) as lease:
            assert lease.execute("echo", pid := lease.pid) == pid
            with pytest.raises(PypoolError, match="queue_timeout.*never"):
                other.execute("echo", 1, queue_timeout=0.1)
        assert other.execute("echo", 1) == 1
        with pytest.raises(PypoolError, match="lease_expired"):
            client.execute("echo", 1, lease=lease)


def test_a_lease_that_expired_ends_its_block_in_peace(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        with client.lease(ttl=0.05) as lease:
            eventually(lambda: error_code(lambda: lease.execute("echo", 1)) == "lease_expired", "it expires")


def error_code(function: Callable[[], Any]) -> str:
    try:
        function()
    except PypoolError as e:
        return e.code
    return ""


def test_an_interrupted_program_leaves_no_call_behind(daemon: Daemon) -> None:
    # a shell starts what is in its background without SIGINT, and that is inherited
    code = f"""import signal
from pypool_client import Client
signal.signal(signal.SIGINT, signal.default_int_handler)
with Client({str(daemon.socket)!r}) as c: c.execute('sleep', 60)
"""
    with Client(daemon.socket) as client:
        with subprocess.Popen([PYTHON, "-c", code], env=ENVIRONMENT, stderr=subprocess.PIPE) as program:
            eventually(lambda: [c["state"] for c in queued(client)] == ["running"], "it runs")
            program.send_signal(signal.SIGINT)
            _, stderr = program.communicate(timeout=20 * SLOW)
        assert b"KeyboardInterrupt" in stderr
        eventually(lambda: queued(client) == [], "its call is gone")


def test_tasks_share_a_connection_and_cancel_their_calls(daemon: Daemon) -> None:
    async def use() -> None:
        async with AsyncClient(daemon.socket, timeout=20) as client:
            assert await asyncio.gather(*(client.execute("echo", i) for i in range(500))) == list(range(500))
            tasks = [asyncio.ensure_future(client.execute("sleep", 60)) for _ in range(3)]
            while len(await client.call("queue")) < 3:
                pass
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(r) for r in results] == [asyncio.CancelledError] * 3
            while await client.call("queue"):
                pass
            large = await asyncio.gather(*(client.execute("echo", b"x" * (4 << 20)) for _ in range(6)))
            assert {len(x) for x in large} == {4 << 20}

    asyncio.run(asyncio.wait_for(use(), 60 * SLOW))


def test_an_async_lease_is_given_back_when_its_task_is_cancelled(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", workers=1)})

    async def work(client: AsyncClient, leased: asyncio.Event) -> None:
        async with client.lease() as lease:
            leased.set()
            await lease.execute("sleep", 60)

    async def use() -> None:
        async with AsyncClient(daemon.socket) as client:
            leased = asyncio.Event()
            task = asyncio.ensure_future(work(client, leased))
            await leased.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await client.execute("echo", 1, timeout=20) == 1

    asyncio.run(asyncio.wait_for(use(), 60 * SLOW))
