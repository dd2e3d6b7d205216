"""What Python programs do, one a handler, and what none should be able to do."""
import ctypes
import multiprocessing
import os
import socket
import subprocess
import tempfile
import threading
from typing import Any, Callable, Dict, List

from pypool_worker import expose

CLONE_NEWUSER = 0x10000000


@expose
def numbers() -> str:
    import numpy
    a = numpy.ones((300, 300))
    return "fine" if (a @ a)[0, 0] == 300 else "wrong"


@expose
def program() -> str:
    return subprocess.run(["sh", "-c", "echo fine"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()


@expose
def threads() -> str:
    found = []  # type: List[str]
    all_of_them = [threading.Thread(target=found.append, args=("x",)) for _ in range(8)]
    for thread in all_of_them:
        thread.start()
    for thread in all_of_them:
        thread.join()
    return "fine" if len(found) == 8 else "wrong"


def square(n: int) -> int:
    return n * n


@expose
def processes() -> str:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return "fine" if pool.map(square, range(4)) == [0, 1, 4, 9] else "wrong"


@expose
def foreign_code() -> str:
    """Calls C, which calls Python: libffi makes code for that."""
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    three = (ctypes.c_int * 3)(3, 1, 2)
    ctypes.CDLL(None).qsort(three, 3, ctypes.sizeof(ctypes.c_int), compare(lambda a, b: a[0] - b[0]))
    return "fine" if list(three) == [1, 2, 3] else "wrong"


@expose
def own_files() -> str:
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("fine")
        file.seek(0)
        return file.read()


@expose
def network() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        two, _ = server.accept()
        with two:
            two.sendall(b"fine")
        return one.recv(4).decode()


@expose
def names() -> str:
    """The resolver asks the kernel for its addresses."""
    return "fine" if socket.if_nameindex() and socket.getaddrinfo("localhost", 80) else "wrong"


@expose
def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


@expose
def uid() -> int:
    return os.getuid()


def why_not(attempt: Callable[[], Any]) -> str:
    try:
        return str(attempt())
    except OSError as e:
        return os.strerror(e.errno or 0)


def system_call(name: str, *args: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)
    return 0


def no_new_privileges() -> str:
    with open("/proc/self/status", encoding="ascii") as file:
        return "no new privileges" if "NoNewPrivs:\t1" in file.read() else "possible"


PTRACE_SEIZE = 0x4206


@expose
def peek(pid: int) -> Dict[str, str]:
    """Into another process."""
    return {
        "memory": why_not(lambda: open(f"/proc/{pid}/mem", "rb").close()),
        "files": why_not(lambda: os.listdir(f"/proc/{pid}/fd")),
        "environment": why_not(lambda: open(f"/proc/{pid}/environ", "rb").read()),
        "trace": why_not(lambda: system_call("ptrace", PTRACE_SEIZE, pid, 0, 0)),
    }


@expose
def poke(pid: int) -> str:
    """Whether it could be signalled."""
    return why_not(lambda: os.kill(pid, 0))


@expose
def tries() -> Dict[str, str]:
    return {
        "write /usr": why_not(lambda: write("/usr/x", "")),
        "write /etc": why_not(lambda: write("/etc/x", "")),
        "gain by setuid": no_new_privileges(),
        "make a namespace": why_not(lambda: system_call("unshare", CLONE_NEWUSER)),
        "load a module": why_not(lambda: system_call("syscall", 313, -1, b"", 0)),
    }
