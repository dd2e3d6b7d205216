"""Pythons other than the system's."""

from __future__ import annotations

import glob
import os
import re


def other_pythons() -> list[str]:
    """The newest of each minor version under pyenv, from 3.9 on."""
    newest: dict[tuple[int, ...], tuple[tuple[int, ...], str]] = {}
    for path in glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")):
        version = tuple(map(int, re.findall(r"\d+", path.split("/versions/")[1])[:3]))
        if version >= (3, 9):
            newest[version[:2]] = max(newest.get(version[:2], ((0,), "")), (version, path))
    return [path for _, (_, path) in sorted(newest.items())]
