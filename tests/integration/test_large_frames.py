"""Many large calls at once: the loop goes on, and counts how long it stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.daemon import SLOW, Daemon, pool
from tests.support.measured import report

StartDaemon = Callable[..., Daemon]
SIZE = 4 << 20


def test_fault_101_a_hundred_frames_of_4_mib_do_not_hold_up_others(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("nasty", 2, max_queue=0, queue_timeout="0")}, uid_max_bytes="0")
    payload = b"x" * SIZE
    over = threading.Event()
    trouble: list[BaseException] = []

    def flood() -> None:
        try:
            with daemon.client() as c:
                for _ in range(25):
                    numbers = [c.start_execute("echo", payload) for _ in range(4)]
                    for number in numbers:
                        assert c.wait(number, timeout=60 * SLOW).value() == payload
        except BaseException as e:
            trouble.append(e)
        finally:
            over.set()

    flooding = threading.Thread(target=flood)
    waits = []
    with daemon.client() as other:
        flooding.start()
        while not over.is_set():
            begun = time.monotonic()
            assert other.call("ping") == "pong"
            waits.append(time.monotonic() - begun)
        flooding.join()
        if trouble:
            raise trouble[0]
        stall = other.call("status")["worst_stall_us"] / 1e6
    report("a ping beside 100 frames of 4 MiB", waits)
    report("worst stall of the loop (wanted: 50 ms)", [stall])
    assert len(waits) > 20, "the other client did not get its turn"
    assert 0 < stall < 0.5 * SLOW
