"""The machine has no more of something: whoever runs out is named, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable

from tests.diagnosis.telling import check, check_init, pool
from tests.support.daemon import Daemon
from tests.support.scenes import early_client, pool_of
from tests.support.waiting import eventually

StartDaemon = Callable[..., Daemon]


def test_fd_exhaustion_in_a_handler(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop", limit_nofile=32)}).client() as c:
        check(
            c.fail_execute("open_all", "/dev/null"), "app_error", "yes",
            r"OSError: \[Errno 24\] Too many open files: '/dev/null', shop\.py line \d+; the worker has all the 32 files open "
            "that limit_nofile of the pool allows",
            "type module message file line traceback",
        )
        assert c.execute("price", 1) == 100, "they are closed again"


def test_fd_exhaustion_in_the_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(
        {"default": pool("shop", breaker_failures=0)}, prefix=["prlimit", "--nofile=22:22"], ready=False
    )
    with early_client(daemon) as c:
        eventually(lambda: bool(pool_of(c)["state"] == "down"), "the first start has failed")
        check_init(
            c.fail_execute("price", 1),
            r"cannot start /usr/bin/python3: Too many open files in pypoold itself \(its LimitNOFILE\)",
        )


def test_full_disk_under_the_log(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(
        {"default": pool("shop")}, prefix=["/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    )
    with daemon.client() as c:
        assert c.execute("price", 1) == 100
        error = c.fail_execute("vanish", 3)
        assert error.cause["output"] == ["about to go"], "what the log lost is told nevertheless"
        assert c.execute("price", 1) == 100
        assert c.call("status")["log_dropped"] > 0
