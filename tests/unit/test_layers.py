"""The check of includes finds what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.check_layers import complaints_of


def tree(root: Path, name: str, text: str) -> Path:
    for header in ("proto/frame.h", "daemon/io/loop.h", "daemon/pool/pool.h", "client/pypool.h", "daemon/config.h"):
        (root / header).parent.mkdir(parents=True, exist_ok=True)
        (root / header).write_text("")
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("name", "include"),
    [
        ("daemon/pool/x.c", '"daemon/io/loop.h"'),
        ("daemon/pool/x.c", '"daemon/pool/pool.h"'),
        ("daemon/main.c", '"daemon/pool/pool.h"'),
        ("client/ctl/x.c", '"client/pypool.h"'),
        ("daemon/io/loop.c", "<ev.h>"),
    ],
)
def test_an_include_of_a_layer_below_is_fine(tmp_path: Path, name: str, include: str) -> None:
    assert complaints_of(tree(tmp_path, name, f"#include {include}\n"), tmp_path) == []


@pytest.mark.parametrize(
    ("name", "include", "says"),
    [
        ("daemon/io/x.c", '"daemon/pool/pool.h"', "is not below daemon/io"),
        ("proto/x.c", '"daemon/io/loop.h"', "is not below proto"),
        ("client/x.c", '"daemon/config.h"', "is not below client"),
        ("daemon/pool/x.c", '"client/pypool.h"', "is not below daemon/pool"),
        ("daemon/pool/x.c", '"pool.h"', "is not a path from the root"),
        ("daemon/pool/x.c", "<ev.h>", "belongs to daemon/io/loop.c alone"),
    ],
)
def test_an_include_that_points_up_or_aside_is_found_with_its_line(
    tmp_path: Path, name: str, include: str, says: str
) -> None:
    (line,) = complaints_of(tree(tmp_path, name, f"/* head */\n  # include {include}\n"), tmp_path)
    assert line.startswith(f"{name}:2: ") and says in line
