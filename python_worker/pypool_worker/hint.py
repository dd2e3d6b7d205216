"""A hint: what a person can do about an exception whose own text does not say it. Imported only when one is told."""
from __future__ import annotations

import os
import re
import sys
from typing import List, Optional, Sequence

CLOSE = 0.75  # of difflib; less finds words that only sound alike

# Import names that are known to belong to these distributions. Others are not guessed: a command that installs whatever
# bears the name of somebody's own module is no help.
DISTRIBUTIONS = {
    "PIL": "Pillow", "aiohttp": "aiohttp", "bs4": "beautifulsoup4", "cryptography": "cryptography",
    "dateutil": "python-dateutil", "django": "Django", "flask": "Flask", "httpx": "httpx", "jinja2": "Jinja2",
    "lxml": "lxml", "matplotlib": "matplotlib", "msgpack": "msgpack", "numpy": "numpy", "pandas": "pandas",
    "psycopg2": "psycopg2-binary", "pydantic": "pydantic", "redis": "redis", "requests": "requests", "scipy": "scipy",
    "sklearn": "scikit-learn", "sqlalchemy": "SQLAlchemy", "tensorflow": "tensorflow", "torch": "torch",
    "tqdm": "tqdm", "yaml": "PyYAML",
}

DEBIAN = "/usr/lib/python3/dist-packages"
VENVS = (".venv", "venv", "env")
CGROUPS = "/sys/fs/cgroup"
_FORK = re.compile(r"fork\w*\(")  # in the line of the call: other system calls fail with EAGAIN for other reasons


def hint_for(exc: BaseException, traceback: str, own: Sequence[str], path: Sequence[str]) -> str:
    """"" when there is nothing to add. `own`: modules that are the pool's; `path`: where it looks for them first."""
    try:
        if isinstance(exc, ModuleNotFoundError) and isinstance(exc.name, str):
            return _missing(exc.name, own, path)
        if isinstance(exc, (NameError, AttributeError, ImportError)):
            return _suggested(traceback)
        if isinstance(exc, (OSError, RuntimeError)):
            return _processes() if isinstance(exc, RuntimeError) or _FORK.search(traceback) else ""
        return _memory() if isinstance(exc, MemoryError) else ""
    except BaseException:
        return ""


def _suggested(traceback: str) -> str:
    found = re.search(r"Did you mean: ('[^']*')\?\s*$", traceback)
    return f"did you mean {found[1]}?" if found else ""


# ---- a module that is not there


def _missing(name: str, own: Sequence[str], path: Sequence[str]) -> str:
    top, _, rest = name.partition(".")
    if rest and top in sys.modules:
        return ""  # the package is there, and its own text says what it lacks
    if any(wanted == name or wanted.startswith(name + ".") for wanted in own):
        return _not_found(name, path)
    if top in getattr(sys, "stdlib_module_names", ()):
        return f"it belongs to Python, but {_python()} was built without it"
    return _not_installed(top, path)


def _not_found(name: str, path: Sequence[str]) -> str:
    searched = ", ".join(entry if os.path.isdir(entry) else f"{entry} (no such directory)" for entry in path)
    told = f"searched in {searched} and in what is installed for {_python()}" if path else (
        f"path of the pool is empty, and it is not installed for {_python()}")
    return told + _or_meant(name, path)


def _not_installed(top: str, path: Sequence[str]) -> str:
    told = f"not installed for {_python()}"
    ways = [way for way in (_command(top), _other_python(top, path)) if way]
    if ways:
        return f"{told}: {', or '.join(ways)}"
    return f"neither in {', '.join(path)} nor {told[4:]}{_or_meant(top, path)}" if path else told


def _python() -> str:
    return f"{sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]})"


def _command(top: str) -> str:
    distribution = DISTRIBUTIONS.get(top)
    if not distribution:
        return ""
    if sys.prefix == sys.base_prefix and os.path.exists(os.path.join(os.path.dirname(os.__file__), "EXTERNALLY-MANAGED")):
        return f"apt install python3-{top.lower()}"
    return f"{sys.executable} -m pip install {distribution}"


def _other_python(top: str, path: Sequence[str]) -> str:
    """Another interpreter that has it: the system's, or that of a venv beside the application."""
    if sys.prefix != "/usr" and _holds(DEBIAN, top):
        return "set python of the pool to /usr/bin/python3, which has it"
    from glob import escape, glob

    for place in [where for entry in path for where in (entry, os.path.dirname(entry))]:
        for venv in (os.path.join(place, name) for name in VENVS):
            if any(_holds(packages, top) for packages in glob(f"{escape(venv)}/lib/python3*/site-packages")):
                return f"set python of the pool to {venv}/bin/python, which has it"
    return ""


def _holds(directory: str, module: str) -> bool:
    return os.path.isdir(os.path.join(directory, module)) or os.path.isfile(os.path.join(directory, module + ".py"))


def _or_meant(name: str, path: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, _modules_in(path), n=3, cutoff=CLOSE)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _modules_in(path: Sequence[str]) -> List[str]:
    found = []
    for directory in filter(os.path.isdir, path):
        for entry in os.scandir(directory):
            stem = entry.name[:-3] if entry.name.endswith(".py") else entry.name if entry.is_dir() else ""
            if stem.isidentifier() and stem != "__pycache__":
                found.append(stem)
    return sorted(found)


# ---- limits of the pool


def _memory() -> str:
    """Of the limit, when there is one: without it the machine itself had no more."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    peak = _peak_bytes()
    if limit == resource.RLIM_INFINITY or peak is None:
        return ""
    return f"limit_as of the pool allows {limit >> 20} MiB of address space, and the worker had {peak >> 20} MiB before"


def _peak_bytes() -> Optional[int]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) * 1024
    return None


def _processes() -> str:
    """Of the cgroup that the daemon has made for this worker: its limit, when that was what refused."""
    group = _own_group("pids")
    if group is None or not os.path.basename(group).startswith("worker-"):
        return ""
    with open(f"{group}/pids.events", encoding="ascii") as events:
        refused = re.search(r"^max (\d+)$", events.read(), re.MULTILINE)
    with open(f"{group}/pids.max", encoding="ascii") as file:
        limit = file.read().strip()
    if not refused or refused[1] == "0" or limit == "max":
        return ""
    return f"limit_pids of the pool allows {limit} processes and threads, those that the worker has started included"


def _own_group(controller: str) -> Optional[str]:
    """Where the files of that controller are: in a hierarchy of its own (version 1), or in the one of version 2."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(":", 2) for line in file.read().splitlines()]
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            return f"{CGROUPS}/{controller}{path}"
    for _, controllers, path in lines:
        if not controllers:
            return next((mount + path for mount in (CGROUPS, f"{CGROUPS}/unified") if os.path.isdir(mount + path)), None)
    return None
