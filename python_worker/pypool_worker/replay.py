"""python3 -m pypool_worker.replay FILE: runs a recorded call again, outside of the daemon. See docs/replay.md.

Two processes in one: the first reads the file and becomes, by exec, a Python with the pool's environment, which imports
the application as a worker does and calls the handler.
"""
from __future__ import annotations

import argparse
import bdb
import faulthandler
import os
import pdb
import resource
import shlex
import sys
import traceback
from types import TracebackType
from typing import Any, Dict, List, Optional

from pypool_worker import context
from pypool_worker.bootstrap import Bootstrap, InitFailed, run_stop_hooks
from pypool_worker.codec import Codec, load_codec
from pypool_worker.control import Control
from pypool_worker.failure import Failure
from pypool_worker.misfit import describe_misfit
from pypool_worker.output import flush_output
from pypool_worker.recording import BadRecording, Recording, is_same_python, list_recordings, read_recording
from pypool_worker.registry import Handler, registry
from pypool_worker.targets import Targets

EXIT_OK = 0
EXIT_FAILED_AGAIN = 1
EXIT_USAGE = 2
EXIT_OTHER_PYTHON = 3
EXIT_NO_APP = 4

PACKAGE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(PACKAGE)
# As run_worker.py: only the package comes within reach, and nothing of ours stays in sys.path.
INSIDE = ("import sys; sys.path.insert(0, {root!r}); import pypool_worker.replay as replay; del sys.path[0]; "
          "sys.path[:] = [e for e in sys.path if e not in ('', '.')]; sys.exit(replay.main_inside())")

USAGE = """exit status: 0 the handler returned, 1 it failed again, 2 wrong usage or the file cannot be read, 3 this is
not the pool's Python, 4 the application cannot be imported or has no such handler. When the call kills its process,
that is the exit status. Replay runs the code that the recording names: use only recordings of your own pypoold."""


class Observer(Control):
    """Stands for the daemon while the application is imported."""

    def __init__(self) -> None:
        self.stopping = False

    def phase(self, name: str, module: Optional[str] = None) -> None:
        tell(f"{name}{' ' + module if module else ''} ...")

    def failed(self, phase: str, failure: Dict[str, Any]) -> None:
        tell(f"failed in {phase}: {failure['type']}: {failure['message']}")


class Debugger(pdb.Pdb):
    """Remembers whether it was left by quit: runcall() returns None then, as if the handler had."""

    left = False

    def set_quit(self) -> None:
        self.left = True
        super().set_quit()


def tell(text: str) -> None:
    """Everything but the result goes to stderr."""
    print(f"replay: {text}", file=sys.stderr, flush=True)


def parse(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m pypool_worker.replay", epilog=USAGE,
                                     description="Runs a call that pypoold has recorded, outside of the daemon.")
    parser.add_argument("file", metavar="FILE", help="a recording; with --list also a directory of them")
    parser.add_argument("--list", action="store_true", help="show what is recorded and run nothing")
    parser.add_argument("--pdb", action="store_true", help="open the debugger where an exception was raised")
    parser.add_argument("--break", dest="stop", action="store_true", help="open it at the handler's first line")
    parser.add_argument("--any-python", action="store_true", help="go on although this is not the pool's Python")
    return parser.parse_args(argv)


def main(argv: List[str]) -> int:
    """The first process. Returns an exit code, or becomes the second."""
    options = parse(argv)
    try:
        codec = load_codec(os.path.join(ROOT, "fallback"))
        if options.list:
            return show(list_recordings(options.file), codec, whole=not os.path.isdir(options.file))
        recording = read_recording(options.file, codec)
    except ImportError as exc:
        tell(f"msgpack cannot be imported by {sys.executable}: {exc}")
        return EXIT_USAGE
    except (OSError, BadRecording) as exc:
        tell(f"{options.file}: {exc}" if isinstance(exc, BadRecording) else str(exc))
        return EXIT_USAGE
    for line in recording.describe():
        print(line, file=sys.stderr)
    print(file=sys.stderr)
    if not options.any_python and not is_same_python(sys.executable, recording.python):
        refuse_python(recording, argv)
        return EXIT_OTHER_PYTHON
    become(recording, argv)
    return EXIT_USAGE


def show(paths: List[str], codec: Codec, whole: bool) -> int:
    """One file in full, or a line for each of several."""
    code = EXIT_OK
    for path in paths:
        try:
            recording = read_recording(path, codec)
        except (OSError, BadRecording) as exc:
            tell(f"{path}: {exc}")
            code = EXIT_USAGE
            continue
        print("\n".join(recording.describe()) if whole else f"{os.path.basename(path)}  {recording.summary()}")
    return code


def refuse_python(recording: Recording, argv: List[str]) -> None:
    tell(f"this is {sys.executable}, and the pool's Python is {recording.python}. Run:")
    command = " ".join(map(shlex.quote, [recording.python, "-m", "pypool_worker.replay", *argv]))
    print(f"PYTHONPATH={shlex.quote(ROOT)} {command}", file=sys.stderr)


def become(recording: Recording, argv: List[str]) -> None:
    """Only an exec gives the environment its full meaning (PYTHONHASHSEED, LD_LIBRARY_PATH). Returns on failure."""
    uid = recording.fields.get("uid")
    if uid is not None and uid != os.geteuid():
        tell(f"the pool's workers run as uid {uid}, this is uid {os.geteuid()}")
    for limit, name in ((resource.RLIMIT_NOFILE, "limit_nofile"), (resource.RLIMIT_AS, "limit_as")):
        set_limit(limit, name, int(recording.fields.get(name) or 0))
    flush_output()
    try:
        os.execve(sys.executable, [sys.executable, "-c", INSIDE.format(root=ROOT), *argv], recording.environment)
    except OSError as exc:
        tell(f"cannot start {sys.executable}: {exc}")


def set_limit(limit: int, name: str, value: int) -> None:
    if not value:
        return
    try:
        resource.setrlimit(limit, (value, value))
    except (OSError, ValueError) as exc:
        tell(f"{name} = {value} cannot be set here: {exc}")


def main_inside() -> int:
    """The second process, which has the pool's environment."""
    options = parse(sys.argv[1:])
    faulthandler.enable()
    codec = load_codec(os.path.join(ROOT, "fallback"))
    recording = read_recording(options.file, codec)
    try:
        bootstrap = Bootstrap(recording.init, Observer(), registry)
        targets = bootstrap.load()
        bootstrap.start(forked=False)
    except InitFailed as exc:
        if options.pdb and exc.__context__ is not None:
            pdb.post_mortem(exc.__context__.__traceback__)
        return EXIT_NO_APP
    assert targets is not None, "the observer never says stop"
    try:
        return call(recording, targets, codec, options)
    finally:
        run_stop_hooks(registry)
        flush_output()


def call(recording: Recording, targets: Targets, codec: Codec, options: argparse.Namespace) -> int:
    request = recording.request
    handler = targets.find(request.target)
    if handler is None:
        tell(targets.explain_unknown(request.target))
        return EXIT_NO_APP
    tell(f"calls {request.target}, {handler.place()}")
    token = context.enter(context.Context(request.call, None, request.traceparent))
    try:
        value = run(handler, recording, options.stop)
    except bdb.BdbQuit:
        tell("left in the debugger")
        return EXIT_FAILED_AGAIN
    except BaseException as exc:
        tell_failure(exc, recording)
        if options.pdb:
            pdb.post_mortem(innermost(exc.__traceback__))
        return EXIT_FAILED_AGAIN
    finally:
        context.leave(token)
    return tell_value(value, codec, recording)


def run(handler: Handler, recording: Recording, stop: bool) -> Any:
    request = recording.request
    if not stop:
        return handler.function(*request.args, **request.kwargs)
    debugger = Debugger(nosigint=True)
    value = debugger.runcall(handler.function, *request.args, **request.kwargs)
    if debugger.left:
        raise bdb.BdbQuit
    return value


def innermost(tb: Optional[TracebackType]) -> Optional[TracebackType]:
    """Without the frames of this file, unless there are no others (wrong arguments)."""
    first = tb
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    return tb or first


def tell_failure(exc: BaseException, recording: Recording) -> None:
    flush_output()
    failure = Failure(exc)
    print(failure.traceback, end="", file=sys.stderr)
    tell(f"raised again: {failure.summary()}")
    tell(f"recorded was: {recording.code}: {recording.message}")


def tell_value(value: Any, codec: Codec, recording: Recording) -> int:
    """The result must also be one that a worker could have sent."""
    flush_output()
    try:
        size = len(codec.pack(value))
    except BaseException as exc:
        tell(f"returned, but: unserializable: {describe_misfit(value, exc)}")
        return EXIT_FAILED_AGAIN
    limit = recording.init.max_reply
    if limit and size > limit:
        tell(f"returned, but: too_large: the result takes {size} bytes, and max_reply of the pool allows {limit}")
        return EXIT_FAILED_AGAIN
    try:
        print(repr(value), flush=True)
    except Exception:
        traceback.print_exc()
    tell(f"returned. Recorded was: {recording.code}: {recording.message}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
