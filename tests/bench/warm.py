"""How fast a burst of calls has workers of its own, by how these come to be, and what they weigh."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from tests.bench.harness import HERE, PYTHON, daemon, running
from tests.bench.scale import Caller
from tests.support.waiting import eventually
from tests.support.worker_harness import WorkerHarness

TWICE = "warm_app_twice"
STAY = 0.6  # s that each call keeps its worker: longer than the slowest start


def burst(sock: str, n: int) -> float:
    """n calls at once; seconds until the last of them has begun, each on a worker of its own."""
    callers = [Caller(sock) for _ in range(n)]
    begun = time.monotonic()
    for caller in callers:
        caller.send("execute", target="stay", args=[STAY])
    answers = [caller.receive() for caller in callers]
    assert all(answer[2] is None for answer in answers), answers
    return max(float(answer[3]) for answer in answers) - begun


def living(caller: Caller) -> list[int]:
    return [w["pid"] for w in caller.call("workers") if w["state"] != "dead"]


@contextlib.contextmanager
def elastic(
    directory: str, start: str, n: int, low: int = 0, spare: int = 0, app: str = "warm_app"
) -> Iterator[tuple[str, Caller]]:
    """A daemon whose pool has `low` workers when nobody calls and n at the most; its template is warm."""
    argv, sock = daemon(directory, n, False, more=f"  start = {start}\n  spare_workers = {spare}\n  idle_timeout = \"50ms\"\n")
    conf = pathlib.Path(argv[-1])
    text = conf.read_text().replace(f"min_workers = {n}", f"min_workers = {low}").replace('"echo_app"', f'"{app}"')
    conf.write_text(text)
    with running(argv, sock):
        caller = Caller(sock)
        caller.call("execute", target="echo", args=[1])
        eventually(lambda: bool(len(living(caller)) == low + spare), "the pool is at rest", 30)
        yield sock, caller


def bursts(
    directory: str, start: str, n: int, rounds: int, low: int = 0, spare: int = 0, app: str = "warm_app"
) -> list[float]:
    took = []
    with elastic(directory, start, n, low, spare, app) as (sock, caller):
        for _ in range(rounds):
            took.append(burst(sock, n))
            eventually(lambda: bool(len(living(caller)) == low + spare), "the pool is at rest again", 30)
    return took


# --- peers

def bare_forks(n: int, rounds: int) -> list[float]:
    """The floor: what the same machine needs for that many children of a process with numpy, which do nothing else."""
    argv = [PYTHON, str(HERE / "bare_forks.py"), str(n), str(rounds)]
    return [float(line) for line in subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()]


def peer_main(pipe: Connection) -> None:
    import numpy

    numpy.random.random(4).sum()
    pipe.send(time.monotonic())


def forkserver(n: int) -> float:
    """n processes of multiprocessing's fork server, which has numpy imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "tests.bench.warm"])
    pipes = [context.Pipe(duplex=False) for _ in range(n)]
    begun = time.monotonic()
    processes = [context.Process(target=peer_main, args=(writer,)) for _, writer in pipes]
    for process in processes:
        process.start()
    ends: list[float] = [reader.recv() for reader, _ in pipes]
    for process in processes:
        process.join()
    return max(ends) - begun


def loky_task(_: int) -> tuple[float, int]:
    import numpy

    begun = time.monotonic()
    numpy.random.random(4).sum()
    time.sleep(STAY)
    return begun, os.getpid()


def loky(n: int) -> float:
    from joblib.externals.loky import ProcessPoolExecutor  # type: ignore[import]

    begun = time.monotonic()
    with ProcessPoolExecutor(n) as executor:
        ends: list[tuple[float, int]] = list(executor.map(loky_task, range(n)))
    return max(end for end, _ in ends) - begun


def peers(n: int, rounds: int) -> dict[str, list[float]]:
    forkserver(1)  # it is warm
    found = {"multiprocessing forkserver": [forkserver(n) for _ in range(rounds)]}
    if importlib.util.find_spec("joblib"):
        found["loky"] = [loky(n) for _ in range(rounds)]
    else:
        print("  loky is not installed (python3-joblib)")
    return found


# --- what is printed

def show(title: str, samples: dict[str, list[float]], floor: str, wanted: str) -> None:
    print(f"\n{title} (ms; load of the machine {os.getloadavg()[0]:.1f})")
    for name, took in samples.items():
        middle = statistics.median(took)
        print(f"  {name:28} {middle * 1e3:8.1f}   {min(took) * 1e3:.1f} to {max(took) * 1e3:.1f}"
              f"   {middle / statistics.median(samples[floor]):6.3f} x {floor}")
    print(f"  wanted: {wanted}")
    sys.stdout.flush()


def bench_bursts(directory: str, rounds: int) -> None:
    samples = {"fork": bursts(directory, "fork", 8, 3 * rounds), "exec": bursts(directory, "exec", 8, rounds),
               "fork, twice": bursts(directory, "fork", 8, rounds, app=TWICE),
               "bare os.fork()": bare_forks(8, 3 * rounds), **peers(8, rounds)}
    show("8 calls at once on a pool without workers, with numpy, until the last has begun", samples, "exec",
         "fork at most 15, and at most 1/20 of exec; twice at most 25")
    samples = {"fork": bursts(directory, "fork", 64, rounds),
               "fork, twice": bursts(directory, "fork", 64, rounds, app=TWICE), "bare os.fork()": bare_forks(64, rounds),
               **peers(64, min(rounds, 3))}
    show("64 calls at once on a pool without workers", samples, "fork", "fork at most 100, twice at most 200")
    samples = {"fork": bursts(directory, "fork", 64, rounds, low=2)}
    show("64 calls at once on a pool of 2", samples, "fork", "fork at most 250")
    samples = {"fork": bursts(directory, "fork", 1, rounds), "fork, 8 spare": bursts(directory, "fork", 8, rounds, spare=8)}
    show("1 call on a pool without workers; 8 on a pool with 8 spare ones", samples, "fork", "at most 10; at most 4")


def smaps(pid: int, *keys: str) -> float:
    """MiB."""
    total = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.partition(":")[0] in keys:
            total += int(line.split()[1])
    return total / 1024


def bench_weight(directory: str) -> None:
    print("\nmemory of a worker with numpy, exactly eight of them, after 1000 calls each (MiB)")
    for start in ("fork", "exec"):
        argv, sock = daemon(directory, 8, False, more=f"  start = {start}\n")
        conf = pathlib.Path(argv[-1])
        conf.write_text(conf.read_text().replace('"echo_app"', '"warm_app"'))
        with running(argv, sock):
            caller = Caller(sock)
            eventually(lambda: bool(len(living(caller)) == 8), "eight workers", 30)
            callers = [Caller(sock) for _ in range(8)]
            for _ in range(1000):
                for each in callers:
                    each.send("execute", target="echo", args=[1])
                for each in callers:
                    each.receive()
            pss = statistics.median(smaps(pid, "Pss") for pid in living(caller))
            private = statistics.median(smaps(pid, "Private_Dirty", "Private_Clean") for pid in living(caller))
        print(f"  {start}: PSS {pss:.2f}, private {private:.2f}" + (" (wanted: 4, 1.5)" if start == "fork" else ""))


def bare_start() -> float:
    begun = time.perf_counter()
    with WorkerHarness("warm_app", path=[str(HERE)], python=PYTHON) as worker:
        worker.start()
        worker.call("echo", 1)
        return time.perf_counter() - begun


def first_start(directory: str, start: str) -> float:
    argv, sock = daemon(directory, 1, False, more=f"  start = {start}\n")
    conf = pathlib.Path(argv[-1])
    conf.write_text(conf.read_text().replace('"echo_app"', '"warm_app"'))
    begun = time.perf_counter()
    with running(argv, sock):
        Caller(sock).call("execute", target="echo", args=[1])
        return time.perf_counter() - begun


def bench_first(directory: str, rounds: int) -> None:
    samples: dict[str, list[float]] = {"one worker by hand": [], "daemon, fork": [], "daemon, exec": []}
    for _ in range(2 * rounds):  # by turns: the machine is not the same from one second to the next
        samples["one worker by hand"].append(bare_start())
        for start in ("fork", "exec"):
            samples[f"daemon, {start}"].append(first_start(directory, start))
    show("from nothing to the first answer", samples, "one worker by hand", "at most 1.3 x")


def bench_warm(directory: str, rounds: int) -> None:
    bench_bursts(directory, rounds)
    bench_weight(directory)
    bench_first(directory, rounds)
