"""Times that were measured: each is asserted where it was, and all are shown in the summary, also of tests that pass."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

MEASURED: list[str] = []


def report(what: str, seconds: list[float]) -> str:
    """Figures for a person, and for the message of an assertion."""
    ms = sorted(1000 * s for s in seconds)
    text = f"{what}: median {statistics.median(ms):.2f} ms, worst {ms[-1]:.2f} ms of {len(ms)}"
    MEASURED.append(text)
    return text


def hand_over(config: pytest.Config) -> None:
    """In a process that runs a part of the tests: its times are for the one that shows them."""
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["measured"] = MEASURED


def take_over(node: Any) -> None:
    """Of such a process, at its end."""
    MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", []))


def show(terminal: TerminalReporter) -> None:
    if MEASURED:
        terminal.section("measured")
        for text in MEASURED:
            terminal.write_line(text)
