"""What forked workers share with their template, and what must not be shared."""
from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import pathlib
import socket
from typing import Any, Dict, Iterator

import pytest

from tests.support.template_harness import ForkFailed, TemplateHarness, subreaper, write_app

WAYS = pytest.mark.parametrize("way", ["clone", "double"])

DRAW = """
import random, secrets, uuid
made_at_import = random.Random(1)
@expose
def draw(): return [random.random(), secrets.token_hex(8), str(uuid.uuid4()), made_at_import.random()]
"""
DRAW_NUMPY = """
import numpy
of_import = numpy.random.default_rng(1)
of_worker = []
numpy.random.randn()  # draws two, and keeps one for the next time
on_start(lambda: of_worker.append(numpy.random.default_rng()))
@expose
def draw_numpy():
    return [numpy.random.randn()] + [float(g.random()) for g in (numpy.random, of_worker[0], of_import)]
"""
MULTIPLY = """
import numpy
def multiply(): return float((numpy.ones((400, 400)) @ numpy.ones((400, 400)))[0, 0])
multiply()
expose(multiply)
@expose
def tasks(): return len(os.listdir("/proc/self/task"))
@expose
def is_openblas(): return "openblas" in open("/proc/self/maps").read()
"""
# As OpenBLAS, which stops its threads before each fork. sem_wait and not a function of Python's: it knows no such thread.
ENDS_ITS_THREADS = """
import ctypes
library, semaphore, thread = ctypes.CDLL(None), ctypes.create_string_buffer(64), ctypes.c_ulong()
def work():
    assert library.pthread_create(ctypes.byref(thread), None, library.sem_wait, semaphore) == 0
def stop():
    if thread.value:
        library.sem_post(semaphore)
        library.pthread_join(thread, None)
        thread.value = 0
library.sem_init(semaphore, 0, 0)
os.register_at_fork(before=stop)
work()
@expose
def tasks():
    before = len(os.listdir("/proc/self/task"))
    work()
    return len(os.listdir("/proc/self/task")) - before
"""


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    with subreaper():
        yield


def unfit(directory: pathlib.Path, text: str) -> Dict[str, Any]:
    """What a template says that must not be forked; it is seen not to do it."""
    with TemplateHarness("made", path=write_app(directory, text + "expose(len)\n")) as template:
        told = template.start_template()
        with pytest.raises(ForkFailed) as failed:
            template.worker().__enter__()
        assert template.stop() == 0 and template.stderr() == ""
    return {**told, "errno": failed.value.errno}


@WAYS
def test_fault_83_64_forks_draw_64_different_numbers(tmp_path: pathlib.Path, way: str) -> None:
    has_numpy = importlib.util.find_spec("numpy") is not None
    targets = ["draw", "draw_numpy"] if has_numpy else ["draw"]
    drawn = []
    path = write_app(tmp_path, DRAW + (DRAW_NUMPY if has_numpy else ""), way)
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        for _ in range(64):
            with template.worker() as worker:
                worker.start()
                drawn.append([number for target in targets for number in worker.call(target).value])
    different = [len(set(column)) for column in zip(*drawn)]
    assert different == [64, 64, 64, 1, 64, 64, 64, 1][:len(different)], "what was made at import is the same in all"


@pytest.mark.parametrize("text", [
    "import pypool_worker.generator as generator\ngenerator.Generator._find = lambda self: 0\n",
    "import numpy.random.mtrand\ndel numpy.random.mtrand\n",
    "import pypool_worker.native as native\nnative.Native.fill_with_random = lambda *_: False\n",
], ids=["state not found", "no such module", "no random numbers at once"])
def test_numpy_is_seeded_also_where_its_state_is_not_known(tmp_path: pathlib.Path, text: str) -> None:
    pytest.importorskip("numpy")
    with TemplateHarness("made", path=write_app(tmp_path, text + DRAW_NUMPY)) as template:
        assert template.start_template()["unfit"] is None
        drawn = []
        for _ in range(3):
            with template.worker() as worker:
                worker.start()
                drawn.append(worker.call("draw_numpy").value)
        assert [len(set(column)) for column in zip(*drawn)] == [3, 3, 3, 1] and template.stderr() == ""


def test_a_generator_that_cannot_be_seeded_is_told_and_does_no_harm(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("numpy")
    path = write_app(tmp_path, "import numpy\nnumpy.random.seed = lambda: 1 / 0\n@expose\ndef f(): return 1\n")
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        for _ in range(2):
            with template.worker() as worker:
                worker.start()
                assert worker.call("f").value == 1
        assert template.stop() == 0
        assert template.stderr() == ("pypool_worker: numpy.random cannot be seeded anew, and is the same in all workers: "
                                     "division by zero\n")


@WAYS
@pytest.mark.parametrize("threads", ["", "4"])
def test_threads_of_blas_end_in_the_template_and_work_in_the_worker(tmp_path: pathlib.Path, way: str,
                                                                    threads: str) -> None:
    pytest.importorskip("numpy")
    environment = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads} if threads else {}
    with TemplateHarness("made", path=write_app(tmp_path, MULTIPLY, way), environment=environment) as template:
        told = template.start_template()
        assert (told["unfit"], told["fork"]) == (None, way)
        assert len(os.listdir(f"/proc/{template.pid}/task")) == 1
        for _ in range(2):
            with template.worker() as worker:
                worker.start()
                before = worker.call("tasks").value
                assert worker.call("multiply").value == 400.0
                if threads and os.cpu_count() != 1 and worker.call("is_openblas").value:
                    assert worker.call("tasks").value > before
                assert worker.stop() == 0


@WAYS
def test_threads_that_a_library_ends_before_a_fork_are_no_obstacle(tmp_path: pathlib.Path, way: str) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, ENDS_ITS_THREADS, way)) as template:
        told = template.start_template()
        assert (told["unfit"], told["fork"]) == (None, way)
        for _ in range(2):
            with template.worker() as worker:
                worker.start()
                assert worker.call("tasks").value == 1
                assert worker.stop() == 0


def test_fault_81_a_thread_started_at_import_makes_a_template_unfit_and_is_named(tmp_path: pathlib.Path) -> None:
    told = unfit(tmp_path, "threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n")
    assert told["unfit"] == "the application has started a thread: poller" and told["errno"] == errno.EDEADLK


def test_fault_81_threads_that_python_does_not_know_are_named_by_the_kernel(tmp_path: pathlib.Path) -> None:
    told = unfit(tmp_path, """
import ctypes
library = ctypes.CDLL(None)
for _ in range(2):
    library.pthread_create(ctypes.byref(ctypes.c_ulong()), None, library.pause, None)
""")
    assert told["unfit"].startswith("the application has started 2 threads: python3")
    assert told["unfit"].count("(not Python's)") == 2 and told["errno"] == errno.EDEADLK


def test_threads_that_have_been_joined_do_no_harm(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(str, range(100)))
@expose
def f(): pass
""")
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        with template.worker() as worker:
            worker.start()


def test_a_thread_that_is_started_later_is_seen_before_the_fork(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
def again(): threading.Thread(target=threading.Event().wait, daemon=True).start()
os.register_at_fork(after_in_parent=lambda: os.path.exists("SWITCH") and again())
""".replace("SWITCH", str(tmp_path / "switch")))
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        (tmp_path / "switch").touch()
        with template.worker() as worker:
            worker.start()
        with pytest.raises(ForkFailed) as failed:
            template.worker().__enter__()
        assert failed.value.errno == errno.EDEADLK
        template.ping()


def test_a_python_without_ctypes_makes_a_template_unfit(tmp_path: pathlib.Path) -> None:
    told = unfit(tmp_path, "sys.modules['ctypes'] = None\n")
    assert told["unfit"].startswith("this Python cannot import ctypes: ") and told["errno"] == errno.ENOSYS


def test_an_application_that_closes_our_descriptors_makes_a_template_unfit(tmp_path: pathlib.Path) -> None:
    told = unfit(tmp_path, "os.close(1)\nos.close(3)\n")
    assert told["unfit"] == "the application has closed descriptors that are pypoold's: 1, 3"


@pytest.mark.parametrize("text", [
    "import pypool_worker.native as native\nnative.Native.find_tid = lambda self: None\n",
    "import pypool_worker.native as native\nnative.MACHINES.clear()\n",
    "import pypool_worker.forking as forking\nforking._is_whole = lambda parent: False\n",
    "import pypool_worker.forking as forking\nforking._is_whole = lambda parent: 1 / 0\n",
    "import pypool_worker.native as native\nwrong = native.ctypes.create_string_buffer(64)\n"
    "native.Native.find_tid = lambda self: native.ctypes.addressof(wrong)\n",
    "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
], ids=["thread id not found", "other machine", "trial failed", "trial raised", "wrong word", "SIGCHLD ignored"])
def test_where_clone_cannot_be_had_the_fork_is_double(tmp_path: pathlib.Path, text: str) -> None:
    path = write_app(tmp_path, text + "@expose\ndef f(): return os.getpid()\n")
    with TemplateHarness("made", path=path) as template:
        told = template.start_template()
        assert (told["fork"], told["unfit"]) == ("double", None)
        with template.worker() as worker:
            worker.start()
            assert worker.call("f").value == worker.pid
        assert template.stop() == 0 and template.stderr() == ""


@WAYS
def test_locks_of_logging_are_free_in_a_worker(tmp_path: pathlib.Path, way: str) -> None:
    """Also one that a thread has taken along to its grave."""
    path = write_app(tmp_path, """
import logging
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
thread = threading.Thread(target=handler.acquire)
thread.start()
thread.join()
@expose
def say(): logging.getLogger("app").warning("said")
""", way)
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        for _ in range(2):
            with template.worker() as worker:
                worker.start()
                assert worker.call("say").error is None
                assert worker.stop() == 0
                assert worker.stderr() == "said\n"
        assert template.stop() == 0 and template.stderr() == ""


def test_fault_82_a_lock_that_was_held_at_the_fork_is_seen_in_the_stack(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
lock = threading.Lock()
lock.acquire()
@on_start
def take_it():
    with lock:
        pass
""")
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        with template.worker() as worker:
            worker.expect("hello")
            worker.send_control("init", template.told_init(1))
            assert worker.expect("phase")["name"] == "start"
            worker.wait_until_blocked("take_it")
            worker.send_control("ping", {"seq": 1})
            assert worker.expect("pong") == {"seq": 1}
            assert "made.py\", line 8 in take_it" in worker.dump()[0]


@WAYS
def test_fault_84_sockets_of_the_template_are_listed_and_cut_off_in_workers(tmp_path: pathlib.Path, way: str) -> None:
    address = str(tmp_path / "server")
    path = write_app(tmp_path, f"""
import socket
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
line.sendall(b"import\\n")
lock_file = open({str(tmp_path / "lock")!r}, "w")
@expose
def send():
    try:
        line.sendall(b"worker\\n")
    except OSError as exc:
        return [type(exc).__name__, os.readlink(f"/proc/self/fd/{{line.fileno()}}"), os.get_inheritable(line.fileno()),
                lock_file.write("one")]
@expose
def connect():
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect({address!r})
        return mine.fileno() != line.fileno()
""", way)
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as stack:
        server.bind(address)
        server.listen()
        template = stack.enter_context(TemplateHarness("made", path=path))
        fds = template.start_template()["fds"]
        assert [text.split(": ")[1].split(":")[0] for text in fds] == ["socket", str(tmp_path / "lock")]
        peer, _ = server.accept()
        stack.enter_context(peer)
        assert peer.recv(100) == b"import\n"
        worker = stack.enter_context(template.worker())
        worker.start()
        assert worker.call("send").value == ["OSError", "/dev/null", False, 3]
        assert worker.call("connect").value is True
        assert template.stop() == 0
        assert peer.recv(100) == b"", "only the template held the connection"


def test_what_was_open_before_the_application_is_not_listed(tmp_path: pathlib.Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    with TemplateHarness("made", path=write_app(tmp_path)) as template:
        assert template.start_template()["fds"] == []
    os.close(reader)
    os.close(writer)


def test_more_descriptors_than_a_packet_holds_do_not_stop_the_start(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, "files = [open(__file__) for _ in range(900)]\n"
                               "for n in range(3000): expose(name=f'{n:0150}', idempotent=True)(lambda n=n: n)\n")
    with TemplateHarness("made", path=path) as template:
        told = template.start_template()
        assert 50 < len(told["fds"]) < 900 and len(told["targets"]) > 50 and len(told["idempotent"]) > 50


def test_a_child_that_the_application_forks_at_import_cannot_speak_for_the_template(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
if os.fork() == 0:
    try:
        os.write(4, b"x")
    except OSError:
        os._exit(0)
    os._exit(1)
status = os.wait()[1]
@expose
def f(): return status
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("f").value == 0


def test_garbage_of_the_template_is_never_collected_in_a_worker(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import gc
things = [[n] for n in range(10_000)]
@expose
def look(): return [gc.isenabled(), gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 10_000]
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("look").value == [True, True, True]
