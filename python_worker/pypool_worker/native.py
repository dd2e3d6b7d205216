"""What a template needs of the C library, and Python's own library does not have. Importing this needs ctypes."""
from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, NamedTuple, Optional

PR_SET_PDEATHSIG = 1
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_PARENT = 0x00200000, 0x01000000, 0x00008000
THREAD_BYTES = 1024  # of glibc's struct pthread, which is larger
WORD = 4


class Numbers(NamedTuple):
    """Of system calls; `tls_last`: the order of clone's arguments."""

    clone: int
    set_robust_list: int
    get_robust_list: int
    tls_last: bool


MACHINES = {"x86_64": Numbers(56, 273, 274, True), "aarch64": Numbers(220, 99, 100, False)}


class Native:
    """The C library and Python's C level. Single-threaded use."""

    def __init__(self) -> None:
        """OSError when it cannot be reached."""
        # PyDLL: the GIL is kept. Another thread must not run between the two halves of a fork.
        self._lib = ctypes.PyDLL(None, use_errno=True)
        self._lib.syscall.restype = ctypes.c_long
        self._prctl = self._lib.prctl  # found now: the child has no need to search

    def die_with_parent(self) -> None:
        """From now on the end of the parent is the end of this process. OSError."""
        if self._prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0):
            raise _error()

    def flush_stdio(self) -> None:
        """What C code has printed and still keeps would be printed by each child again."""
        self._lib.fflush(None)

    def find_tid(self) -> Optional[int]:
        """The address at which glibc keeps the number of this thread; None when it is not known for sure."""
        if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
            return None
        self._lib.pthread_self.restype = ctypes.c_void_p
        begin: int = self._lib.pthread_self()
        words = (ctypes.c_uint32 * (THREAD_BYTES // WORD)).from_address(begin)
        pid = os.getpid()
        found = [index for index, word in enumerate(words) if word == pid]
        return begin + WORD * found[0] if len(found) == 1 else None


class Clone:
    """fork() that can make a child of the parent's in place of one's own.

    It does what os.fork() and the C library's fork() do around the system call. What the latter does for other threads
    and their locks is left out: this process has no other thread.
    """

    def __init__(self, native: Native, tid: int) -> None:
        """`tid`: what find_tid() has found. LookupError when that cannot be done here."""
        numbers = MACHINES.get(os.uname().machine)
        if numbers is None or sys.maxsize < 2 ** 32 or os.getpid() == 1:  # the first process has no siblings
            raise LookupError
        if not getattr(sys, "_is_gil_enabled", lambda: True)():  # nothing but C code may run between the two halves
            raise LookupError
        try:
            self._before = _void(native._lib.PyOS_BeforeFork)
            self._after_in_parent = _void(native._lib.PyOS_AfterFork_Parent)
            self._after_in_child = _void(native._lib.PyOS_AfterFork_Child)
        except AttributeError:
            raise LookupError from None
        self._syscall = native._lib.syscall
        self._numbers = numbers
        self._tid = tid
        self._robust: Any = self._robust_list()

    def fork(self, sibling: bool) -> int:
        """0 in the child. OSError."""
        flags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD | (CLONE_PARENT if sibling else 0)
        tid = ctypes.c_void_p(self._tid)
        order = (tid, None) if self._numbers.tls_last else (None, tid)
        arguments = (ctypes.c_long(self._numbers.clone), ctypes.c_ulong(flags), None, None, *order)
        self._before()
        pid: int = self._syscall(*arguments)
        if pid == 0:
            self._after_in_child()
            self._syscall(*self._robust)
            return 0
        error = _error() if pid < 0 else None
        self._after_in_parent()
        if error is not None:
            raise error
        return pid

    def _robust_list(self) -> Any:
        """The call that announces the list of mutexes which others must get when a process dies: the kernel forgets it
        in a child."""
        head, size = ctypes.c_void_p(), ctypes.c_size_t()
        of_this_thread = ctypes.c_long(0)
        if self._syscall(ctypes.c_long(self._numbers.get_robust_list), of_this_thread, ctypes.byref(head),
                         ctypes.byref(size)):
            raise LookupError
        return ctypes.c_long(self._numbers.set_robust_list), head, size


def _void(function: Any) -> Any:
    function.restype, function.argtypes = None, ()
    return function


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
