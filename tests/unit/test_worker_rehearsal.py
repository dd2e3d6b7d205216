"""What a template prepares for its workers: it changes nothing that anybody can see, and never keeps them from being forked."""
from __future__ import annotations

import pathlib
from typing import Any, Iterator

import pytest

from tests.support.template_harness import TemplateHarness, subreaper, write_app

WAYS = pytest.mark.parametrize("way", ["clone", "double"])

SHOW = """
import resource
@expose
def show():
    return {"fds": os.listdir("/proc/self/fd"), "worker": os.environ["PYPOOL_WORKER"],
            "pages": sum("memfd:" in line for line in open("/proc/self/maps")), "limit": resource.getrlimit(10)[0]}
"""


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    with subreaper():
        yield


def fds_of(pid: int) -> set[str]:
    return {fd.name for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()}


@WAYS
def test_it_leaves_nothing_behind(tmp_path: pathlib.Path, way: str) -> None:
    with TemplateHarness("made", path=write_app(tmp_path, SHOW, way)) as template:
        template.start_template()
        fds = fds_of(template.pid)
        maps = pathlib.Path(f"/proc/{template.pid}/maps").read_text()
        tasks = len(list(pathlib.Path(f"/proc/{template.pid}/task").iterdir()))
        assert {"0", "1", "2", "3", "4", "5", "6"} <= fds and tasks == 1 and maps.count("memfd:") == 1, (fds, maps)
        with template.worker(mark=5) as worker:
            worker.start()
            shown = worker.call("show").value
            assert (shown["pages"], shown["worker"], shown["limit"]) == (1, "1", 5)
            assert len(set(shown["fds"]) - fds) == 1, "that of the listing"
        assert fds_of(template.pid) == fds and template.stop() == 0 and template.stderr() == ""


def test_an_applications_descriptor_far_up_is_not_touched(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
far = [os.dup2(os.open(__file__, os.O_RDONLY), n) for n in (40, 43, 300)]
@expose
def read(): return [os.path.samefile(f"/proc/self/fd/{n}", __file__) for n in far]
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("read").value == [True, True, True]


USE_UP = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 30, 4096))
taken = []
try:
    while True: taken.append(os.dup(0))
except OSError: pass
for fd in taken[%s]: os.close(fd)
"""
ONLY_ONCE = """
template, setpgid = os.getpid(), os.setpgid
def failing(*args):
    if os.getpid() == template: raise PermissionError("a leader of a session")
    setpgid(*args)
os.setpgid = failing
"""


@pytest.mark.parametrize("text, why", [
    (USE_UP % ":12", "[Errno 9] "), (USE_UP % "-15:", "[Errno 24] "),  # enough to fork a worker
    ("import pypool_worker.rehearsal as rehearsal\nrehearsal._Stage.play = lambda self: 1 / 0\n", "division by zero"),
    (ONLY_ONCE, "a leader of a session"),
], ids=["no descriptor above all others", "a few descriptors left", "an exception", "an exception in the middle"])
def test_a_template_that_cannot_prepare_says_so_and_forks_nevertheless(tmp_path: pathlib.Path, text: str, why: str) -> None:
    path = write_app(tmp_path, text + """
opened = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
@expose
def before(): return opened
""")
    with TemplateHarness("made", path=path) as template:
        assert template.start_template()["unfit"] is None
        fds = fds_of(template.pid)
        with template.worker() as worker:
            worker.start()
            assert set(worker.call("before").value) == fds
        assert fds_of(template.pid) == fds and template.stop() == 0
        told = "workers will need more memory than they could, since the template cannot prepare for them: " + why
        assert told in template.stderr(), template.stderr()


MONITORED = """
import types
sys.monitoring = types.SimpleNamespace(PROFILER_ID=2, get_tool=lambda tool: {2: "cProfile"}.get(tool))
"""


@pytest.mark.parametrize("text, gathered", [("", True), ("sys.setprofile(lambda *_: None)\n", False), (MONITORED, False)],
                         ids=["without a profiler", "with one", "with one as of Python 3.12"])
def test_code_is_gathered_unless_the_application_has_a_profiler(tmp_path: pathlib.Path, text: str, gathered: bool) -> None:
    path = write_app(tmp_path, text + """
import pypool_worker.runner as runner
code = runner.Runner.serve.__code__
@expose
def look(): return [code is not runner.Runner.serve.__code__, code == runner.Runner.serve.__code__]
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("look").value == [gathered, True]


def test_the_code_of_an_application_that_put_a_function_into_this_package_stays_its_own(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import pypool_worker.runner as runner
serve = runner.Runner.serve
def mine(self): serve(self)
code, runner.Runner.serve = mine.__code__, mine
@expose
def look(): return mine.__code__ is code
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("look").value is True


def test_a_function_of_python_that_is_deprecated_is_not_called(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
cleared = []
def old(): raise DeprecationWarning("use the other one")
sys._clear_type_cache, sys._clear_internal_caches = old, lambda: cleared.append(1)
@expose
def look(): return cleared
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("look").value == [1]
        assert template.stop() == 0 and template.stderr() == ""


def test_stacks_come_from_a_worker_whose_template_has_asyncio(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
import asyncio, signal, time
asyncio.new_event_loop().close()
@expose
def wakeup():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            assert worker.call("wakeup").value == 5


def test_the_first_call_of_a_worker_meets_no_trace_of_a_rehearsed_one(tmp_path: pathlib.Path) -> None:
    path = write_app(tmp_path, """
from pypool_worker import current
@expose
def me(): return [current().call_id, current().deadline, current().remaining()]
""")
    with TemplateHarness("made", path=path) as template:
        template.start_template()
        with template.worker() as worker:
            worker.start()
            first: Any = worker.call("me").value
            assert first[1:] == [None, None] and first[0] != 0
