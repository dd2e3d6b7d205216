"""Forking: how a template makes a process that is the daemon's own child, whose end the daemon can wait for."""
from __future__ import annotations

import errno
import os
import signal
import threading
import warnings
from functools import partial
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from pypool_worker.atfork import atfork_users

if TYPE_CHECKING:
    from pypool_worker.native import Clone, Native  # which need ctypes

CLONE, DOUBLE = "clone", "double"
TRIAL_SECONDS = 5
WAY_MAX = 100  # characters

Fork = Callable[[], int]  # 0 in the child; OSError


def choose_fork(native: Native) -> Tuple[str, Fork]:
    """The best way that works here, and its name: "double: libx.so.1" when that library is the reason."""
    twice = partial(fork_twice, native)
    users = atfork_users()
    if users:
        return f"{DOUBLE}: {', '.join(users)}"[:WAY_MAX], twice
    clone = make_clone(native)
    if clone is not None and _try(clone):
        return CLONE, partial(clone.fork, True)
    return DOUBLE, twice


def make_clone(native: Native) -> Optional[Clone]:
    """None: cannot be had here."""
    from pypool_worker.native import Clone

    tid = native.find_tid()
    try:
        return None if tid is None else Clone(native, tid)
    except LookupError:
        return None


def fork_once() -> None:
    """A child that does nothing. It ends the threads of numerical libraries, which stop them before a fork and start
    them again when they are used. OSError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, about these threads
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    reap(pid)


def fork_twice(native: Native) -> int:
    """The child's parent, which exits at once, is a child of this process: the child goes to the next subreaper, the
    daemon. It comes back only when it is there. OSError.

    Python's hooks run around the second fork only: all that the process in the middle does is to fork.
    """
    with Pipe() as answer, Pipe() as gate:
        middle = native.fork()
        if middle == 0:
            _fork_again(answer)
            answer.close()
            os.close(gate.take_writer())
            os.read(gate.reader, 1)  # until the template has closed its end
            return 0
        os.close(answer.take_writer())
        told = os.read(answer.reader, 100)
        reap(middle)
    pid = int(told or -errno.EAGAIN)  # nothing: the middle one was killed
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def _fork_again(answer: Pipe) -> None:
    """Returns in the child only."""
    try:
        pid = os.fork()
    except OSError as exc:
        pid = -(exc.errno or errno.EAGAIN)
    if pid:
        os.write(answer.take_writer(), str(pid).encode())
        os._exit(0)


class Pipe:
    """Open for as long as the block, less what was taken."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take_writer(self) -> int:
        writer, self._writer = self._writer, -1
        return writer

    def close(self) -> None:
        for fd in (self.reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self.reader = self._writer = -1


def reap(pid: int) -> Optional[int]:
    """Waits for a child of this process. None: the application has set SIGCHLD so that the status is lost."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def _try(clone: Clone) -> bool:
    """Whether a child made in this way is a whole process."""
    parent = os.getpid()
    try:
        pid = clone.fork(sibling=False)
    except OSError:
        return False
    if pid:
        return reap(pid) == 0
    try:
        os._exit(0 if _is_whole(parent) else 1)
    except BaseException:
        os._exit(1)


def _is_whole(parent: int) -> bool:
    """In the trial child."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TRIAL_SECONDS)
    failed: List[BaseException] = []

    def look_at_main_thread() -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, 0)  # by the number that the C library keeps
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=look_at_main_thread)
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        os._exit(0)
    return (reap(child) in (0, None) and not failed and os.getpid() != parent
            and threading.get_native_id() == os.getpid())
