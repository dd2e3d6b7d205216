"""One scene in one of the process pools that Python programs use: `peer_pool.py KIND SCENE`. Prints what the caller saw."""
from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import select
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, List, Optional

PATIENCE = 3.0  # seconds that the caller waits
START_PATIENCE = 15.0  # when a worker must start first


class Peer:
    """The same three steps for each kind: make it with an initializer, submit, wait."""

    def __init__(self, kind: str, app: Optional[str]) -> None:
        self.kind = kind
        initializer = None if app is None else importlib.import_module
        arguments = () if app is None else (app,)
        if kind == "multiprocessing":
            self.pool: Any = multiprocessing.Pool(1, initializer, arguments)
        elif kind == "concurrent":
            self.pool = ProcessPoolExecutor(1, initializer=initializer, initargs=arguments)
        else:
            from joblib.externals import loky

            self.pool = loky.ProcessPoolExecutor(1, initializer=initializer, initargs=arguments)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args) if self.kind == "multiprocessing" else self.pool.submit(function, *args)

    def wait(self, handle: Any, patience: float = PATIENCE) -> Any:
        return handle.get(patience) if self.kind == "multiprocessing" else handle.result(patience)

    def pids(self) -> List[int]:
        if self.kind == "multiprocessing":
            return [process.pid for process in self.pool._pool]
        return list(self.pool._processes)


def saw(act: Callable[[], Any]) -> str:
    try:
        value = act()
        return f"the result {json.dumps(value) if not isinstance(value, bytes) else f'({len(value)} bytes)'}"
    except BaseException as exc:
        name = type(exc).__name__ if type(exc).__module__ == "builtins" else f"{type(exc).__module__}.{type(exc).__qualname__}"
        text = str(exc).strip().splitlines()
        return f"{name}: {' '.join(text)}" if text else f"{name}, with no message"


def kill(pid: int) -> None:
    """Returns when it is dead."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def play(kind: str, scene: List[Any]) -> str:
    what, name, args = scene
    if what == "import":
        peer = Peer(kind, name)
        return saw(lambda: peer.wait(peer.submit(abs, 1), START_PATIENCE))
    import shop

    peer = Peer(kind, None)
    peer.wait(peer.submit(abs, 1), START_PATIENCE)
    if what == "busy":
        peer.submit(shop.slow, 20)
        return saw(lambda: peer.wait(peer.submit(shop.price, 1)))
    if what == "idle":
        kill(peer.pids()[0])
        return saw(lambda: peer.wait(peer.submit(shop.price, 1)))
    if what == "again":
        return "; ".join(saw(lambda: peer.wait(peer.submit(getattr(shop, name), *args))) for _ in range(3))
    if what == "outside":
        handle = peer.submit(shop.slow, 20)
        while not os.path.exists(os.environ["SHOP_BEGUN"]):
            time.sleep(0.002)
        os.kill(peer.pids()[0], signal.SIGKILL)
        return saw(lambda: peer.wait(handle))
    return saw(lambda: peer.wait(peer.submit(getattr(shop, name), *args)))


if __name__ == "__main__":
    print("SAW " + play(sys.argv[1], json.loads(sys.argv[2])), flush=True)
    os._exit(0)
