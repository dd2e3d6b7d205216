"""What the daemon and systemd tell each other: readiness, watchdog, sockets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import procfs
from tests.support.client import Client
from tests.support.daemon import DEMO, Daemon, Value, pool
from tests.support.users import ALICE, acting_as, needs_root
from tests.support.waiting import eventually
from tests.support.daemon_life import Start, bind, check_end, state_of_first_pool, through_shell


def test_fault_94_ready_comes_when_every_pool_has_settled(start_daemon: Start) -> None:
    slow = pool("slow_import", 1, environment=["PYPOOL_TEST_SECONDS=2"])
    daemon = start_daemon({"fast": pool("nasty", 1), "slow": slow}, ready=False)
    daemon.wait_log(r"listener\.open")
    with daemon.client() as c:
        eventually(lambda: state_of_first_pool(c) == "serving", "the fast one serves", 20)
        assert c.execute("echo", 1, pool="fast") == 1, "it serves already"
        status = c.call("status")
        assert (status["state"], status["pools"][1]["state"]) == ("starting", "starting")
        assert daemon.notify.find("READY") is None
        daemon.wait_ready()
        status = c.call("status")
        assert (status["state"], status["pools"][1]["state"]) == ("running", "serving")
    daemon.take_baseline()
    assert daemon.notify.values("READY") == ["1"]


def test_fault_94_a_degraded_pool_is_named_and_does_not_hold_up_the_others(start_daemon: Start) -> None:
    daemon = start_daemon({"good": pool("nasty", 1), "bad": pool("import_error", 1)})
    status = daemon.notify.values("STATUS")[-1]
    assert "1 of 2 workers serving" in status
    assert "degraded: bad" in status and "a_module_that_does_not_exist" in status and "good" not in status
    with daemon.client() as c:
        assert c.execute("echo", 1, pool="good") == 1
        assert c.fail_execute("echo", 1, pool="bad").code == "init_failed"
    daemon.baseline_fds.clear()  # its fds come and go with the attempts of the bad pool


def test_fault_94_require_all_is_strict(start_daemon: Start) -> None:
    daemon = start_daemon({"good": pool("nasty", 1), "bad": pool("import_error", 1)}, require_all=True, ready=False)
    check_end(daemon, 1, 20)
    daemon.wait_log(r"daemon\.require_all pool=bad .*a_module_that_does_not_exist")
    assert daemon.notify.find("READY") is None


def test_fault_94_the_watchdog_is_fed_by_the_loop(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, environment={"WATCHDOG_USEC": "200000"})

    def pings() -> int:
        return len(daemon.notify.values("WATCHDOG"))

    assert daemon.notify.wait(lambda: pings() >= 5, 5), "one each 100 ms"
    daemon.signal(signal.SIGSTOP)
    eventually(lambda: procfs.process(daemon.pid).state == "T", "it stands")  # type: ignore[union-attr]
    daemon.notify.fence()  # what was under way has come
    stopped = pings()
    assert not daemon.notify.wait(lambda: pings() > stopped, 0.4), "a loop that hangs feeds nothing"
    daemon.signal(signal.SIGCONT)
    assert daemon.notify.wait(lambda: pings() > stopped, 5)


def test_fault_94_a_watchdog_for_another_process_is_not_ours(start_daemon: Start) -> None:
    environment = {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
    daemon = start_daemon({"default": pool("nasty", 1)}, environment=environment)
    assert daemon.notify.find("WATCHDOG") is None


WRONG_FDS = {
    "not_a_number": ("export LISTEN_PID=$$ LISTEN_FDS=three;", "LISTEN_FDS"),
    "negative": ("export LISTEN_PID=$$ LISTEN_FDS=-1;", "LISTEN_FDS"),
    "not_open": ("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3>&-;", "LISTEN_FDS"),
    "a_file": ("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</etc/passwd;", "not a listening"),
    "names_of_more": ("export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b; exec 3</dev/null;", "LISTEN_FDNAMES"),
}


@pytest.mark.parametrize("what", WRONG_FDS)
def test_fault_95_wrong_listen_fds_are_a_clear_exit(start_daemon: Start, what: str) -> None:
    words, reason = WRONG_FDS[what]
    daemon = start_daemon({"default": DEMO}, prefix=through_shell(words), ready=False)
    assert daemon.wait() == 1
    daemon.wait_log(rf"error listener\.failed .*{reason}")
    assert not daemon.socket.exists()


@pytest.mark.parametrize("kind", ["a_connected_socket", "two_sockets", "two_named_admin"])
def test_fault_95_sockets_that_do_not_fit_are_a_clear_exit(place: Path, start_daemon: Start, kind: str) -> None:
    with bind(place / "one") as one, bind(place / "two") as two:
        one.listen(5)
        if kind.startswith("two"):
            two.listen(5)
            words, reason = f"exec 3<&{one.fileno()} 4<&{two.fileno()}; export LISTEN_FDS=2", "more than one.* not named admin"
            if kind == "two_named_admin":
                words, reason = f"{words} LISTEN_FDNAMES=admin:admin", "more than one socket named admin"
        else:
            two.connect(str(place / "one"))
            words, reason = f"exec 3<&{two.fileno()}; export LISTEN_FDS=1", "not a listening"
        prefix = through_shell(f"{words} LISTEN_PID=$$;")
        pass_fds = (one.fileno(), two.fileno())
        daemon = start_daemon({"default": DEMO}, prefix=prefix, pass_fds=pass_fds, ready=False)
        assert daemon.wait() == 1
        daemon.wait_log(rf"error listener\.failed .*{reason}")


def test_fault_95_listen_fds_for_another_process_are_not_ours(start_daemon: Start) -> None:
    daemon = start_daemon({"default": pool("nasty", 1)}, environment={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert daemon.socket.is_socket()


def test_a_socket_passed_by_systemd_is_served_and_left_there(place: Path, start_daemon: Start) -> None:
    with bind(place / "pypoold.sock") as listening:
        listening.listen(100)
        early = Client(place / "pypoold.sock", hello=False)  # before there is a daemon, as socket activation is meant
        number = early.start_execute("echo", "early")
        words = f"exec 3<&{listening.fileno()} {listening.fileno()}<&-; export LISTEN_FDS=1 LISTEN_PID=$$;"
        daemon = start_daemon(
            {"default": pool("nasty", 1)},
            prefix=through_shell(words),
            pass_fds=(listening.fileno(),),
            directory=place,
            ready=False,
        )
        with early:
            assert early.wait(number).value() == "early"
        daemon.wait_ready()
        with daemon.client() as c:
            assert c.execute("echo", 1) == 1
            for variable in ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"):
                (worker,) = procfs.children(daemon.pid)
                assert variable not in Path(f"/proc/{worker.pid}/environ").read_text()
        daemon.check_quiet()
        daemon.signal(signal.SIGTERM)
        check_end(daemon, 0)
        assert (place / "pypoold.sock").is_socket(), "it is systemd's"


@contextmanager
def served(place: Path, start_daemon: Start, names: list[str], **settings: Value) -> Iterator[Daemon]:
    """A daemon with a listening socket of each name, at that path in `place`."""
    with ExitStack() as all_of_them:
        sockets = [all_of_them.enter_context(bind(place / name)) for name in names]
        for one in sockets:
            one.listen(100)
        moves = " ".join(f"{3 + i}<&{one.fileno()}" for i, one in enumerate(sockets))
        words = f"exec {moves}; export LISTEN_FDS={len(names)} LISTEN_FDNAMES={':'.join(names)} LISTEN_PID=$$;"
        pass_fds = tuple(one.fileno() for one in sockets)
        daemon = start_daemon(
            {"default": pool("nasty", 1)}, prefix=through_shell(words), pass_fds=pass_fds, directory=place, **settings
        )
        yield daemon
        daemon.signal(signal.SIGTERM)
        check_end(daemon, 0)


def words_of_refusal(path: Path) -> str:
    with Client(path, framing="bare", hello=False) as c:
        return str(c.wait_error(None).raw)


@needs_root
def test_no_limit_of_connections_stops_an_admin_at_the_socket_for_admins(place: Path, start_daemon: Start) -> None:
    with served(place, start_daemon, ["pypoold.sock", "admin"], max_clients=1) as daemon, ExitStack() as crowd:
        for _ in range(9):  # 8 of them have a place because they are admins
            crowd.enter_context(daemon.client())
        assert "max_clients is 1" in words_of_refusal(daemon.socket)
        for _ in range(20):
            admin = crowd.enter_context(Client(place / "admin"))
            assert admin.execute("echo", 1) == 1
            assert admin.hello["role"] == "admin"


@needs_root
def test_only_admins_are_served_at_the_socket_for_admins(place: Path, start_daemon: Start) -> None:
    with served(place, start_daemon, ["admin", "pypoold.sock"]) as daemon:
        for name in ("admin", "pypoold.sock"):
            (place / name).chmod(0o666)
        with acting_as(ALICE):
            words = words_of_refusal(place / "admin")
            assert words == f"denied: this socket is for admins; uid {ALICE} has the role observe (executed: never)"
            with daemon.client() as alice:
                assert alice.execute("echo", 1) == 1


def test_a_socket_for_admins_does_not_take_the_place_of_the_ordinary_one(place: Path, start_daemon: Start) -> None:
    words = "exec 3<&{}; export LISTEN_FDS=1 LISTEN_FDNAMES=admin LISTEN_PID=$$;"
    with bind(place / "admin") as one:
        one.listen(5)
        prefix = through_shell(words.format(one.fileno()))
        daemon = start_daemon({"default": pool("nasty", 1)}, prefix=prefix, pass_fds=(one.fileno(),), directory=place)
        assert daemon.socket.is_socket()
        with daemon.client() as c, Client(place / "admin") as admin:
            assert (c.execute("echo", 1), admin.execute("echo", 2)) == (1, 2)
