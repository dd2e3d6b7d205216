"""Includes point only to layers below.

The layers of the daemon are `proto < base < io < pool < front < top`, those of the client `proto < client < ctl`. A file
may include files of its own layer and of those to the left, and nothing else of the project. Tests may include all.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LAYERS: dict[str, tuple[str, ...]] = {
    "proto": (),
    "daemon/base": ("proto",),
    "daemon/io": ("proto", "daemon/base"),
    "daemon/pool": ("proto", "daemon/base", "daemon/io"),
    "daemon/front": ("proto", "daemon/base", "daemon/io", "daemon/pool"),
    "daemon": ("proto", "daemon/base", "daemon/io", "daemon/pool", "daemon/front"),
    "client": ("proto",),
    "client/ctl": ("proto", "client"),
}
# Headers of libraries that belong to one place: the beginning of its path.
OWNERS = {"ev.h": "daemon/io/loop.c", "confuse.h": "daemon/config", "libsmartcols.h": "client/ctl/"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def complaints_of(file: Path, root: Path) -> list[str]:
    """What is wrong with the includes of one file, as file:line: lines."""
    name = file.relative_to(root).as_posix()
    layer = file.parent.relative_to(root).as_posix()
    allowed = (layer, *LAYERS[layer])
    found = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        quote, target = match.groups()
        where = f"{name}:{number}: "
        if quote == "<":
            owner = OWNERS.get(target)
            if owner is not None and not name.startswith(owner):
                found.append(f"{where}<{target}> belongs to {owner} alone")
        elif "/" not in target or not (root / target).exists():
            found.append(f'{where}"{target}" is not a path from the root of the project')
        elif Path(target).parent.as_posix() not in allowed:
            found.append(f'{where}"{target}" is not below {layer}: it may include {", ".join(allowed)}')
    return found


def main(root: Path) -> int:
    files = [f for layer in LAYERS for f in sorted((root / layer).glob("*.[ch]"))]
    found = [line for f in files for line in complaints_of(f, root)]
    for line in found:
        print(line, file=sys.stderr)
    print(f"layers: {len(files)} files, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]))
