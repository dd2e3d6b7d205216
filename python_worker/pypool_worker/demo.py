"""The demo application: `app = "pypool_worker.demo"`. Real work on real input, and ways to go wrong on purpose."""
from __future__ import annotations

import collections
import csv
import io
import os
import re
import statistics
import sys
import time
from typing import Any, Dict, List, Optional

from pypool_worker import current, expose

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sample.csv")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@expose(idempotent=True)
def word_count(text: Optional[str] = None, path: Optional[str] = None, top: int = 5) -> Dict[str, Any]:
    """How many words a text, or a file that this worker can read, has, and which are the most frequent."""
    counts = collections.Counter(word.lower() for word in WORD.findall(_input(text, path)))
    return {"words": sum(counts.values()), "distinct": len(counts), "top": counts.most_common(top), "pid": os.getpid()}


@expose(idempotent=True)
def csv_stats(text: Optional[str] = None, path: Optional[str] = None) -> Dict[str, Any]:
    """Count, mean, standard deviation and median of each numeric column of a CSV; without arguments, of the sample."""
    rows = list(csv.DictReader(io.StringIO(_input(text, path or (SAMPLE if text is None else None)))))
    columns = {name: _numbers([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    numeric = {name: column for name, column in columns.items() if column}
    engine, describe = _engine()
    described = {name: describe(column) for name, column in numeric.items()}
    return {"engine": engine, "rows": len(rows), "columns": described}


@expose
def echo(value: Any = None) -> Any:
    """The argument, as it came."""
    return value


@expose
def collect(item: Any) -> List[Any]:
    """Adds an item to what this session has collected; all of it. In a session only."""
    items: List[Any] = current().session.setdefault("items", [])
    items.append(item)
    return items


@expose
def sleep(seconds: float) -> str:
    """Blocks in the kernel; an interrupt ends it at once."""
    time.sleep(seconds)
    return f"slept {seconds} s"


@expose
def fail(message: str = "the demo fails on purpose") -> None:
    """An ordinary failure of an application, one exception behind another."""
    try:
        os.environ["PYPOOL_DEMO_NOT_SET"]
    except KeyError as exc:
        raise ValueError(message) from exc


@expose
def busy_python(seconds: float) -> int:
    """A loop in Python. Returns how often it went round."""
    rounds, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
    return rounds


@expose
def busy_c(seconds: float) -> int:
    """About that long inside C code that holds the GIL: no Python code runs meanwhile, in no thread."""
    probe = 200_000
    started = time.perf_counter()
    sum(range(probe))
    per_item = (time.perf_counter() - started) / probe
    return sum(range(int(seconds / per_item)))


@expose
def crash(signal: int = 11) -> None:
    """Dies by a signal, like a library with a bug."""
    os.kill(os.getpid(), signal)
    time.sleep(10)


@expose(name="exit")
def leave(code: int = 1) -> None:
    """Ends the process behind the worker's back."""
    os._exit(code)


@expose
def noisy(lines: int = 3) -> int:
    """Prints on both outputs; the lines go to the pool's log, never to the protocol."""
    for number in range(lines):
        print(f"line {number} on stdout")
        print(f"line {number} on stderr", file=sys.stderr)
    current().log.info("wrote %d lines", 2 * lines)
    return lines


def _input(text: Optional[str], path: Optional[str]) -> str:
    if (text is None) == (path is None):
        raise ValueError("give either text or path")
    if text is not None:
        return text
    with open(str(path), encoding="utf-8", newline="") as file:
        return file.read()


def _numbers(cells: List[Optional[str]]) -> List[float]:
    """Empty when one of them is not a number."""
    try:
        return [float(cell or "") for cell in cells]
    except ValueError:
        return []


def _engine() -> Any:
    try:
        import numpy
    except ImportError:
        return "statistics", _describe_with_statistics

    def describe(column: List[float]) -> Dict[str, float]:
        array = numpy.array(column)
        return {"count": len(column), "mean": float(array.mean()), "median": float(numpy.median(array)),
                "stdev": float(array.std(ddof=1 if len(column) > 1 else 0)),
                "min": float(array.min()), "max": float(array.max())}

    return f"numpy {numpy.__version__}", describe


def _describe_with_statistics(column: List[float]) -> Dict[str, float]:
    return {"count": len(column), "mean": statistics.fmean(column), "median": statistics.median(column),
            "stdev": statistics.stdev(column) if len(column) > 1 else 0.0, "min": min(column), "max": max(column)}
