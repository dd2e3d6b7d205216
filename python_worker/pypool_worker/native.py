"""What a template needs of the C library, and Python's own library does not have. Importing this needs ctypes."""
from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from typing import Any, NamedTuple, Optional, Tuple

PR_SET_PDEATHSIG = 1
MAP_FIXED = 0x10
MAP_FAILED = ctypes.c_void_p(-1).value
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_PARENT = 0x00200000, 0x01000000, 0x00008000
CLONE_THREAD = 0x00010000
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
        self._prctl = self._lib.prctl  # found now, and its arguments made: the child has the less to do
        self._kill = ctypes.c_ulong(signal.SIGKILL)
        self._fflush = self._lib.fflush
        self._unshare = self._lib.unshare
        self._getrandom = self._lib.getrandom
        self._getrandom.restype = ctypes.c_ssize_t
        self._getrandom.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
        self._mmap = self._lib.mmap
        self._mmap.restype = ctypes.c_void_p
        self._again: Tuple[Any, ...] = ()

    def die_with_parent(self) -> None:
        """From now on the end of the parent is the end of this process. OSError."""
        if self._prctl(PR_SET_PDEATHSIG, self._kill, 0, 0, 0):
            raise _error()

    def map_page(self, fd: int) -> memoryview:
        """As interrupt.map_page(), and so that map_again() can put something else behind it. The descriptor stays the
        caller's. OSError."""
        size, offset = ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_long(0)
        page = self._map(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, offset)
        self._again = ctypes.c_void_p(page), size, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, fd, offset
        return memoryview((ctypes.c_ubyte * mmap.PAGESIZE).from_address(page)).cast("B").cast("Q")

    def map_again(self) -> None:
        """Behind what map_page() has returned stands what its descriptor is now. OSError."""
        self._map(*self._again)

    def unmap_page(self) -> None:
        """Nothing may look at what map_page() has returned any more."""
        self._lib.munmap(*self._again[:2])

    def _map(self, *arguments: Any) -> int:
        mapped: int = self._mmap(*arguments)
        if mapped == MAP_FAILED:
            raise _error()
        return mapped

    def fork(self) -> int:
        """By the C library, with its handlers and without Python's hooks. OSError."""
        pid: int = self._lib.fork()
        if pid < 0:
            raise _error()
        return pid

    def is_alone(self) -> bool:
        """Whether this process has one thread; False also where the kernel does not say so in this way."""
        error: int = self._unshare(CLONE_THREAD)  # that changes nothing when there is only one, and fails else
        return error == 0

    def fill_with_random(self, address: int, size: int) -> bool:
        """Writes so many bytes there, from the system's random numbers. False: not all of them, for whatever reason."""
        written: int = self._getrandom(address, size, 0)
        return written == size

    def flush_stdio(self) -> None:
        """What C code has printed and still keeps would be printed by each child again."""
        self._fflush(None)

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
        # made now: the child has the less to throw away
        self._child = self._clone_arguments(numbers, tid, 0)
        self._sibling = self._clone_arguments(numbers, tid, CLONE_PARENT)
        self._robust = self._robust_arguments(numbers)

    def fork(self, sibling: bool) -> int:
        """0 in the child. OSError."""
        arguments = self._sibling if sibling else self._child
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

    def _clone_arguments(self, numbers: Numbers, tid: int, flags: int) -> Tuple[Any, ...]:
        order = (ctypes.c_void_p(tid), None) if numbers.tls_last else (None, ctypes.c_void_p(tid))
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD
        return ctypes.c_long(numbers.clone), ctypes.c_ulong(flags), None, None, *order

    def _robust_arguments(self, numbers: Numbers) -> Tuple[Any, ...]:
        """Of the call that announces the list of mutexes which others must get when a process dies: the kernel forgets
        it in a child."""
        head, size = ctypes.c_void_p(), ctypes.c_size_t()
        of_this_thread = ctypes.c_long(0)
        if self._syscall(ctypes.c_long(numbers.get_robust_list), of_this_thread, ctypes.byref(head), ctypes.byref(size)):
            raise LookupError
        return ctypes.c_long(numbers.set_robust_list), head, size


def _void(function: Any) -> Any:
    function.restype, function.argtypes = None, ()
    return function


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
