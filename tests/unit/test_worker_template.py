"""A real template and the workers that it forks, in both ways of forking."""
from __future__ import annotations

import errno
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
from typing import Any, Iterator, List

import pytest

from tests.support.pythons import other_pythons
from tests.support.template_harness import ForkFailed, TemplateHarness, subreaper, write_app
from tests.support.worker_harness import CANCELLED, PATIENCE, ROOT, install_worker

WAYS = pytest.mark.parametrize("way", ["clone", "double"])
GOES = pytest.mark.parametrize("go", [False, True])
RLIMIT_LOCKS = 10
TOGETHER = 11  # more than a template takes at once

WORK = """
import multiprocessing, random, subprocess
def square(n): return n * n
def run_in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return found[0] != os.getpid()
@expose
def work():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        squares = pool.map(square, range(5))
    child = os.fork()
    if child == 0:
        os._exit(7)
    return [subprocess.check_output(["/bin/echo", "out"]), run_in_thread(), squares,
            os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), threading.get_native_id() == os.getpid(),
            threading.current_thread() is threading.main_thread()]
@expose
def forks(): return os.fork() == 0 and "came back"
@expose
def crash(): os.abort()
@expose
def hold(): sum(range(10 ** 15))
@expose
def sleep():
    import time
    time.sleep(60)
"""
WORKED = [b"out\n", True, [0, 1, 4, 9, 16], 7, True, True]


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    with subreaper():
        yield


@WAYS
@GOES
def test_a_template_loads_once_and_its_workers_are_our_children(tmp_path: pathlib.Path, way: str, go: bool) -> None:
    path = write_app(tmp_path, """
made_in = os.getpid()
seen = []
def warm(): seen.append("warmup")
@after_fork
def again(): seen.append("after_fork")
@on_start
def begin(): seen.append("start")
@on_stop
def end(): print("stopped")
@expose(idempotent=True)
def look(): return [made_in, os.getpid(), os.getppid(), os.getpgid(0), threading.get_native_id(), seen,
                    os.environ["PYPOOL_WORKER"], sys.argv, sys.path[0]]
""", way)
    with TemplateHarness("made", path=path, preload=["json"], warmup="made:warm") as template:
        told = template.start_template()
        assert (told["fork"], told["unfit"], told["fds"]) == (way, None, [])
        assert (told["targets"], told["idempotent"], told["session_close"]) == (["look"], ["look"], False)
        assert [(p["name"], p.get("module")) for p in template.phases] == [
            ("preload", "json"), ("imports", "made"), ("warmup", None)]
        for number in (1, 2):
            with template.worker(go=go) as worker:
                assert worker.start() == ["look"]
                assert [p["name"] for p in worker.phases] == ["after_fork", "start"]
                assert worker.hello["pid"] == worker.pid and (go or worker.hello["t_ns"] > told["t_ns"])
                assert worker.call("look").value == [
                    template.pid, worker.pid, os.getpid(), worker.pid, worker.pid, ["warmup", "after_fork", "start"],
                    str(number), ["made"], str(tmp_path)]
                assert worker.stop() == 0
                assert (worker.stdout(), worker.stderr()) == ("stopped\n", "")
        template.ping()
        assert template.stop() == 0
        assert (template.stdout(), template.stderr()) == ("", "")


@WAYS
def test_a_forked_worker_is_a_whole_process(tmp_path: pathlib.Path, way: str) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, WORK, way)) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("work").value == WORKED
            assert worker.call("forks").value is False
            worker.wait_for_output("stderr", "came back from the handler")
            call = worker.request("sleep")
            worker.wait_until_blocked("sleep")
            worker.interrupt(call, CANCELLED)
            assert worker.receive().code == "cancelled"
            assert worker.stop() == 0


def test_one_that_goes_on_at_once_needs_no_init_and_takes_no_notice_of_one(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, WORK)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker(go=True) as worker:
            worker.start()
            assert worker.phases == []
            worker.send_init()
            assert worker.call("work").value == WORKED
            worker.adopt()
            worker.expect_ready()
            assert worker.hello["t_ns"] > template.told["t_ns"]
            worker.adopt(2)
            worker.expect_ready(2)
            assert worker.call("work").value == WORKED
            assert worker.stop() == 0
        with template.worker(go=True) as worker:
            worker.send_control("stop", {})
            assert worker.wait() == 0, worker.stderr()
        with template.worker(go=True) as worker:
            worker.control.close()
            assert worker.wait() == 1


def test_a_hook_that_fails_is_told_by_one_that_goes_on_at_once(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, "@after_fork\ndef again(): raise RuntimeError('not twice')\n")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker(go=True) as worker:
            name, fields = worker.init()
            assert (name, fields["phase"], fields["message"]) == ("failed", "after_fork", "not twice")
            assert [p["name"] for p in worker.phases] == ["after_fork"]
            assert worker.wait() == 1


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return install_worker(str(tmp_path_factory.mktemp("library")))


@pytest.mark.skipif(not other_pythons(), reason="no other Pythons are installed under ~/.pyenv")
@pytest.mark.parametrize("python", other_pythons())
@WAYS
def test_it_works_with_other_pythons(tmp_path: pathlib.Path, installed: str, python: str, way: str) -> None:
    path = write_app(tmp_path, WORK, way)
    with TemplateHarness("made", path=path, python=python, run_worker=installed) as template:
        told = template.start_template()
        assert (told["fork"], told["unfit"]) == (way, None)
        with template.worker() as worker:
            worker.start()
            assert worker.call("work").value == WORKED
            assert worker.stop() == 0
        assert template.stop() == 0 and template.stderr() == ""


@WAYS
def test_fault_87_the_exit_status_of_a_forked_worker_is_known(tmp_path: pathlib.Path, way: str) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, WORK, way)) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            worker.request("crash")
            assert worker.wait() == -signal.SIGABRT
            assert "Fatal Python error: Aborted" in worker.last_dump() and " in crash" not in template.stderr()


@WAYS
def test_fault_58_a_forked_worker_has_the_descriptors_of_any_other(tmp_path: pathlib.Path, way: str) -> None:
    path = write_app(tmp_path, "@expose\ndef look(): return [os.get_inheritable(fd) for fd in range(3, 7)]\n", way)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        ours = template.open_fds()
        with template.worker() as worker:
            worker.start()
            assert worker.open_fds() == ours
            assert {fd: kind for fd, kind in ours.items() if fd < 7} == {
                0: "/dev/null", 1: "pipe", 2: "pipe", 3: "socket", 4: "socket", 5: "pipe", 6: "/memfd"}
            assert worker.call("look").value == [False] * 4
        template.ping()
        assert template.open_fds() == ours, "it has closed its copies"


def test_the_mark_is_the_workers_own_limit(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, "import resource\n@expose\ndef look(): return resource.getrlimit(10)\n")
    hard = resource.getrlimit(RLIMIT_LOCKS)[1]
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        for mark in (4711 << 32 | 12, 0):
            with template.worker(mark) as worker:
                worker.start()
                assert worker.call("look").value == [mark or resource.getrlimit(RLIMIT_LOCKS)[0], hard]


@WAYS
def test_what_is_left_in_a_buffer_is_printed_once(tmp_path: pathlib.Path, way: str) -> None:
    path = write_app(tmp_path, """
import ctypes, io
sys.stdout.write("[python]")
sys.stderr.write("[error]")
ctypes.CDLL(None).printf(b"[c]")
replaced, sys.stdout = sys.stdout, io.StringIO()
@expose
def speak(): print("handler", file=replaced)
""", way)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        for _ in range(2):
            with template.worker() as worker:
                worker.start()
                assert worker.call("speak").error is None
                assert worker.stop() == 0
                assert (worker.stdout(), worker.stderr()) == ("handler\n", "")
        assert template.stop() == 0
        assert sorted(template.stdout().split("]")) == ["", "[c", "[python"] and template.stderr() == "[error]"


@pytest.mark.parametrize("hook", ["after_fork", "on_start"])
def test_a_hook_that_raises_fails_the_worker_and_not_the_template(tmp_path: pathlib.Path, hook: str) -> None:
    path = write_app(tmp_path, f"first = []\n@{hook}\ndef begin(): raise OSError('cold')\n@expose\ndef f(): pass\n")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        for _ in range(2):
            with template.worker() as worker:
                name, fields = worker.init()
                assert (name, fields["phase"], fields["message"], fields["line"]) == (
                    "failed", hook.replace("on_", ""), "cold", 5)
                assert worker.wait() == 1 and "OSError: cold" in worker.stderr()
        assert template.stop() == 0 and template.stderr() == ""


def test_fault_52_an_application_that_cannot_be_imported_fails_the_template(tmp_path: pathlib.Path) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, "raise OSError('no licence')\n")) as template:
        name, fields = template.init()
        assert (name, fields["phase"], fields["message"]) == ("failed", "imports", "no licence")
        assert template.wait() == 1 and "OSError: no licence" in template.stderr()


def test_fault_53_a_template_that_hangs_in_an_import_shows_its_stack() -> None:
    with TemplateHarness("hangs_in_import") as template:
        template.expect("hello")
        template.send_control("init", template.told_init(1))
        template.wait_for_frame("wait_for_licence")
        template.send_control("ping", {"seq": 1})
        assert not select.select([template.control], [], [], 0)[0] or template.expect("phase")


@WAYS
def test_workers_live_on_when_the_template_has_stopped(tmp_path: pathlib.Path, way: str) -> None:
    path = write_app(tmp_path, "import atexit\natexit.register(print, 'removed')\n" + WORK, way)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert template.stop() == 0 and template.stdout() == ""
            assert worker.call("work").value == WORKED
            assert worker.stop() == 0 and worker.stdout() == "removed\n"


def test_stop_before_init_and_eof_end_a_template() -> None:
    with TemplateHarness() as template:
        template.expect("hello")
        assert template.stop() == 0
    for started in (False, True):
        with TemplateHarness() as template:
            if started:
                template.start_template()
            else:
                template.expect("hello")
            template.control.close()
            assert template.wait() == 1 and template.stdout() == ""


@pytest.mark.parametrize("packet, count, told", [
    (b"\xc1", 0, "no notification"), (b"\x93\x02\xa4fork\x91\x01", 6, "no notification"),
    ({"worker": 1, "mark": 0}, 5, "5 descriptors in place of 6"),
    ({"worker": 1, "mark": 0}, 0, "0 descriptors in place of 6"),
    ({"worker": 1, "mark": 0}, 9, "and more descriptors in place of 6"), ({"worker": 1}, 6, "without worker and mark"),
    ({"worker": 1, "mark": 0, "outlive": 1}, 6, "whose outlive is neither true nor false"),
    ({"worker": 1, "mark": 0, "go": None}, 6, "whose go is neither true nor false"),
], ids=str)
def test_garbage_on_control_ends_a_template(packet: Any, count: int, told: str) -> None:
    reader, writer = os.pipe()
    with TemplateHarness() as template:
        template.start_template()
        if isinstance(packet, bytes):
            template.control.send(packet)
        else:
            template.send_fds("fork", packet, [writer] * count)
        os.close(writer)
        assert template.wait() == 1 and told in template.stderr()
        assert os.read(reader, 1) == b"", "nobody has kept the descriptors"
    os.close(reader)


def test_a_template_is_not_adopted() -> None:
    reader, writer = os.pipe()
    for started in (False, True):
        with TemplateHarness() as template:
            if started:
                template.start_template()
            template.send_fds("adopt", {"seq": 1}, [writer])
            assert template.wait() == 1 and "is not adopted" in template.stderr()
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_descriptors_of_other_packets_are_closed() -> None:
    reader, writer = os.pipe()
    with TemplateHarness() as template:
        template.start_template()
        template.send_fds("ping", {"seq": 1}, [writer] * 3)
        os.close(writer)
        assert template.expect("pong") == {"seq": 1}
        assert os.read(reader, 1) == b""
    os.close(reader)


FAILING = """
import errno
import pypool_worker.native as native
me = os.getpid()
def failing(way, real):
    def fork(*args, **options):
        if os.path.exists("SWITCH") and WHERE == (way if os.getpid() == me else "middle"):
            raise OSError(errno.EAGAIN, "as if there were too many")
        return real(*args, **options)
    return fork
native.Clone.fork = failing("clone", native.Clone.fork)
native.Native.fork = failing("fork", native.Native.fork)
os.fork = failing("fork", os.fork)
"""


@pytest.mark.parametrize("where", ["clone", "fork", "middle"])
def test_fault_54_a_fork_that_fails_is_told_and_the_next_may_succeed(tmp_path: pathlib.Path, where: str) -> None:
    switch = tmp_path / "switch"
    text = FAILING.replace("SWITCH", str(switch)).replace("WHERE", repr(where)) + WORK
    with TemplateHarness("made", path=write_app(tmp_path, text, "clone" if where == "clone" else "double")) as template:
        template.start_template()
        ours = template.open_fds()
        switch.touch()
        with pytest.raises(ForkFailed) as failed:
            template.worker().__enter__()
        template.ping()
        assert failed.value.errno == errno.EAGAIN and template.open_fds() == ours
        switch.unlink()
        with template.worker() as worker:
            worker.start()
            assert worker.call("work").value == WORKED


@WAYS
@GOES
def test_what_is_ordered_together_is_forked_in_order(tmp_path: pathlib.Path, way: str, go: bool) -> None:
    text = "@expose\ndef look(): return [os.environ['PYPOOL_WORKER'], os.getpid()]\n"
    with TemplateHarness("made", path=write_app(tmp_path, text, way)) as template:
        template.start_template()
        ours = template.open_fds()
        with template.together(TOGETHER, go=go) as workers:
            assert len(workers) == TOGETHER
            for number, worker in enumerate(workers, 1):
                worker.start()
                assert worker.call("look").value == [str(number), worker.pid]
                assert worker.open_fds() == ours, "none has what belongs to another one"
            template.ping()
            assert template.open_fds() == ours
            assert [worker.stop() for worker in workers] == [0] * TOGETHER


def test_fault_54_one_that_cannot_be_forked_keeps_none_from_it_that_was_ordered_with_it(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import pypool_worker.native as native
real, tried = native.Clone.fork, []
def fork(self, sibling):
    if sibling:
        tried.append(1)
        if len(tried) in (1, 3): raise OSError(11, "as if there were too many")
    return real(self, sibling)
native.Clone.fork = fork
@expose
def look(): return os.environ['PYPOOL_WORKER']
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        ours = template.open_fds()
        with template.together(4) as workers:
            for worker in workers:
                worker.start()
            assert [worker.call("look").value for worker in workers] == ["2", "4"]
            assert [worker.open_fds() for worker in workers] == [ours, ours]
        template.ping()
        assert template.open_fds() == ours


LITTLE_ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (7 + ROOM, 4096))  # beside those that are pypoold's
@expose
def look(): return os.environ["PYPOOL_WORKER"]
"""


@WAYS
@pytest.mark.parametrize("room", [12, 22, 30])
def test_fault_23_what_is_ordered_together_needs_no_more_descriptors_than_there_are(
        tmp_path: pathlib.Path, room: int, way: str) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, LITTLE_ROOM.replace("ROOM", str(room)), way)) as template:
        template.start_template()
        with template.together(8) as workers:
            for worker in workers:
                worker.start()
            assert [worker.call("look").value for worker in workers] == list("12345678")
        template.ping()


def test_fault_23_an_order_that_cannot_be_received_is_answered_and_the_next_may_succeed() -> None:
    with TemplateHarness() as template:
        template.start_template()
        ours = template.open_fds()
        soft, hard = resource.prlimit(template.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(template.pid, resource.RLIMIT_NOFILE, (len(ours) + 2, hard))
        with pytest.raises(ForkFailed) as failed:
            template.worker().__enter__()
        template.ping()
        assert failed.value.errno == errno.EMFILE and template.open_fds() == ours
        resource.prlimit(template.pid, resource.RLIMIT_NOFILE, (soft, hard))
        with template.worker() as worker:
            worker.start()
            assert worker.call("echo", 1).value == 1


@pytest.mark.parametrize("last", ["ping", "stop", "nothing"])
def test_what_comes_behind_an_order_is_obeyed_after_it(last: str) -> None:
    with TemplateHarness() as template:
        template.start_template()
        os.kill(template.pid, signal.SIGSTOP)
        with template.worker(held=True) as worker:
            if last == "nothing":
                template.control.shutdown(socket.SHUT_WR)
            else:
                template.send_control(last, {"seq": 7})
            os.kill(template.pid, signal.SIGCONT)
            assert worker.is_born()
            worker.start()
            if last == "ping":
                assert template.expect("pong") == {"seq": 7}
            else:
                assert template.wait() == (0 if last == "stop" else 1)
            assert worker.call("echo", 1).value == 1


def test_fault_80_a_template_that_dies_before_it_answers_leaves_a_worker_that_works(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import pypool_worker.packets as packets
send = packets.Packets.send_packed
def dying(self, message):
    if b"forked" in message:
        os.kill(os.getpid(), 9)
    send(self, message)
packets.Packets.send_packed = dying
""" + WORK)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker(answered=False) as worker:
            assert template.wait() == -signal.SIGKILL and template.control.recv(1) == b""
            worker.start()
            assert worker.call("work").value == WORKED
            assert worker.stop() == 0


@WAYS
def test_a_worker_that_is_not_born_to_the_daemon_leaves_at_once(tmp_path: pathlib.Path, way: str) -> None:
    path = write_app(tmp_path, "os.getppid = lambda: 1\n", way)  # as if another process had taken it in meanwhile
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            assert worker.wait() == 127 and worker.control.recv(1) == b""


DAEMON = """
import sys
sys.path[:0] = [{root!r}]
from tests.support.template_harness import TemplateHarness, subreaper
with subreaper(), TemplateHarness("made", path={path!r}) as template:
    template.start_template()
    with template.worker() as worker:
        worker.start()
        worker.request("hold")
        worker.wait_for_frame("hold")
        print(template.pid, worker.pid, flush=True)
        sys.stdin.read()
"""


@WAYS
def test_fault_90_workers_and_template_end_with_the_daemon(tmp_path: pathlib.Path, way: str) -> None:
    path = write_app(tmp_path, WORK, way)
    text = DAEMON.format(root=ROOT, path=path)
    daemon = subprocess.Popen([sys.executable, "-B", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with daemon:
        assert daemon.stdout is not None
        pidfds: List[int] = [os.pidfd_open(int(pid)) for pid in daemon.stdout.readline().split()]
        daemon.kill()
    left = [pidfd for pidfd in pidfds if not select.select([pidfd], [], [], PATIENCE)[0]]
    for pidfd in left:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for pidfd in pidfds:
        os.close(pidfd)
    assert not left, "one that holds the GIL cannot see that control has ended: the kernel must kill it"
