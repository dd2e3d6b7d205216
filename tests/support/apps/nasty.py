"""Handlers that misbehave on command, for tests of the worker and of the daemon."""
from __future__ import annotations

import datetime
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, List

from pypool_worker import current, expose, on_stop


@expose
def echo(value: Any = None) -> Any:
    return value


@expose
def pid() -> int:
    return os.getpid()


@expose
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@expose
def hold(end: str) -> None:
    """Until there is a file of that name."""
    while not os.path.exists(end):
        time.sleep(0.005)


@expose
def busy_c(seconds: float) -> int:
    """Inside one C call that holds the GIL and looks at no signal, at least that long."""
    probe, end = 100_000, time.perf_counter() + seconds
    started = time.perf_counter()
    sum(range(probe))
    per_item = (time.perf_counter() - started) / probe
    total = sum(range(int(1.2 * seconds / per_item)))
    while time.perf_counter() < end:
        total += sum(range(probe))
    return total


@expose
def busy_python(seconds: float) -> int:
    rounds, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
    return rounds


@expose
def crash(sig: int = signal.SIGSEGV) -> None:
    os.kill(os.getpid(), sig)
    time.sleep(10)


@expose
def os_exit(code: int = 0) -> None:
    os._exit(code)


@expose
def sys_exit(code: int = 0) -> None:
    sys.exit(code)


@expose
def noisy(nbytes: int) -> int:
    """About that many bytes on stderr, in lines."""
    line = "x" * 99 + "\n"
    for _ in range(max(1, nbytes // len(line))):
        sys.stderr.write(line)
    return nbytes


@expose
def unblock_stdio() -> None:
    """What asyncio does to a pipe that it is given."""
    for fd in (0, 1, 2):
        os.set_blocking(fd, False)


@expose
def number_lines(n: int) -> int:
    """That many lines on stdout, each with its number."""
    for i in range(n):
        print(f"line {i} " + "x" * 80)
    return n


@expose
def write_in_threads(letters: str, n: int) -> List[str]:
    """Threads that write at the same time, each n lines of its letter on both outputs; then much of each letter."""
    def work(letter: str) -> None:
        for _ in range(n):
            print(letter * 40 + "\n", end="")
            print(letter * 40 + "\n", end="", file=sys.stderr)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in letters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [letter * 100_000 for letter in letters]


@expose
def print_then(value: Any = None) -> Any:
    """Text on both outputs, the last without a newline, then the value."""
    print("printed on stdout")
    print("printed on stderr", file=sys.stderr)
    print("no newline", end="")
    return value


@expose
def grandchild_holds_pipes() -> int:
    """Starts a process that keeps the worker's outputs and its call socket open. Returns its pid."""
    return subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, pass_fds=[3]).pid


@expose
def close_fds() -> str:
    os.closerange(3, 64)
    return "closed"


@expose
def ignore_term_forever() -> None:
    """Neither an interrupt nor SIGTERM ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(3600)
        except BaseException as exc:
            print(f"ignored {type(exc).__name__}", file=sys.stderr)


@expose
def unserializable() -> Any:
    return {"a": [1, 2, 3, {4, 5}], "when": datetime.datetime(2024, 1, 1)}


@expose
def big(nbytes: int) -> bytes:
    return b"\xa5" * nbytes


@expose
def raise_chained() -> None:
    try:
        int("twelve")
    except ValueError as exc:
        raise LookupError("no such order") from exc


@expose
def deep(depth: int) -> List[Any]:
    value: List[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@expose
def append_line(path: str, text: str, seconds: float = 0.0) -> int:
    """Atomic: the ledger of tests that count executions. Takes some time afterwards."""
    with open(path, "a", encoding="utf-8") as file:
        written = file.write(text + "\n")
    time.sleep(seconds)
    return written


@expose
def run_command(*words: str) -> List[Any]:
    """Its status and what it printed."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return [done.returncode, done.stdout.decode()]


@expose
def write(stream: str, text: str) -> None:
    """As it is, to the stdout or stderr of the process."""
    os.write({"stdout": 1, "stderr": 2}[stream], text.encode())


@expose
def write_and_sleep(stream: str, text: str, seconds: float) -> None:
    write(stream, text)
    time.sleep(seconds)


@expose
def block_on_socket() -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return ours.recv(1)


@expose
def swallow_interrupt(seconds: float) -> str:
    """Returns in the ordinary way after having caught what was to end it."""
    try:
        time.sleep(seconds)
    except BaseException as exc:
        return f"swallowed {type(exc).__name__}"
    return "not interrupted"


@expose
def swallow_and_sleep() -> None:
    """No interrupt ends it; SIGTERM does."""
    while True:
        try:
            time.sleep(3600)
        except BaseException as exc:
            print(f"ignored {type(exc).__name__}", file=sys.stderr)


@expose
def print_and_exit(text: str) -> None:
    print(text, end="", flush=True)
    os._exit(1)


@expose
def stdin_and_fds() -> List[Any]:
    listed = [int(fd) for fd in os.listdir("/proc/self/fd")]  # with that of the listing, which is closed by now
    return [sys.stdin.read(), sorted(fd for fd in listed if os.path.exists(f"/proc/self/fd/{fd}"))]


@expose
def context() -> Any:
    """What current() says of this call."""
    ctx = current()
    ctx.log.info("seen in the log")
    return {"call_id": ctx.call_id, "deadline": ctx.deadline, "remaining": ctx.remaining(), "trace": ctx.traceparent}


@expose
def put(key: str, value: Any) -> int:
    """Writes into the session. Returns how many keys it has then."""
    current().session[key] = value
    return len(current().session)


@expose
def values() -> Any:
    """Those of the session."""
    return dict(current().session)


@expose
def hide(seconds: float) -> float:
    """Sleeps, and takes no signal that asks for its stack. Prints when that is so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    print("hidden", flush=True)
    try:
        time.sleep(seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return seconds


@on_stop
def say_goodbye() -> None:
    print("goodbye from on_stop")


def not_exposed() -> str:
    return "nobody may call this"
