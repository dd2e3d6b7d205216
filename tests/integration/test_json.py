"""docs/json.md and what `pypoolctl --json` prints have the same shape, for every command."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import BUILD, ROOT, Daemon
from tests.support.json_scene import KINDS, Scene
from tests.support.shapes import complaints

PAGE = (ROOT / "docs" / "json.md").read_text()
NO_JSON = {"metrics"}


def shapes() -> dict[str, Any]:
    found = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks = {heading: re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for heading, text in found}
    return {heading: json.loads(block[0]) for heading, block in blocks.items() if block}


def commands() -> list[str]:
    return re.findall(r'^\t\{ "(\w+)",', (ROOT / "client" / "ctl" / "commands.c").read_text(), re.MULTILINE)


def test_every_command_has_its_place() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert list(dict.fromkeys(heading.split()[0] for heading in headings if heading != "an error")) == commands()
    assert {heading for heading in headings if heading not in shapes()} == NO_JSON


def test_what_is_printed_is_what_is_documented(start_daemon: Callable[..., Daemon]) -> None:
    scene = Scene(start_daemon)
    try:
        scene.look()
        scene.operate()
        scene.take_events()
        scene.end()
    finally:
        scene.close()
    documented = shapes()
    assert {heading for heading, _ in scene.said} == set(documented), "each shape is seen"
    found = [f"{heading}{c}" for heading, value in scene.said for c in complaints(value, documented[heading])]
    assert found == []
    assert {e["kind"] for heading, e in scene.said if heading == "events"} == set(KINDS)


def test_metrics_are_no_json() -> None:
    done = subprocess.run([str(BUILD / "pypoolctl"), "--json", "metrics"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no JSON" in done.stderr


@pytest.mark.parametrize("value, shape, expected", [
    (1, "integer", []), (True, "integer", ["x: integer is documented, and it is True"]), (1, "number", []), (1.5, "integer|null", ["x: integer|null"]),
    (None, "text|null", []), ([1, "a"], ["integer"], ["x[1]: integer"]), ({}, ["any"], ["x: a list"]), (1, {"a": "any"}, ["x: a map"]),
    ({"a": 1, "b": 2}, {"a": "integer"}, ["x.b is not documented"]), ({}, {"a": "any", "b?": "any"}, ["x.a is documented and not there"]),
    ({"c": 1, "d": ""}, {"*": "integer"}, ["x.d: integer"]), (None, {"or": [["any"], "null"]}, []), (1, {"or": [["any"], "null"]}, ["x: "]),
])
def test_a_shape_complains_of_what_is_otherwise(value: Any, shape: Any, expected: list[str]) -> None:
    found = complaints(value, shape, "x")
    assert len(found) == len(expected) and all(c.startswith(e) for c, e in zip(found, expected)), found
