"""Times that were measured: each is asserted where it was, and all are shown in the summary, also of tests that pass."""

from __future__ import annotations

import statistics

from _pytest.terminal import TerminalReporter

MEASURED: list[str] = []


def report(what: str, seconds: list[float]) -> str:
    """Figures for a person, and for the message of an assertion."""
    ms = sorted(1000 * s for s in seconds)
    text = f"{what}: median {statistics.median(ms):.2f} ms, worst {ms[-1]:.2f} ms of {len(ms)}"
    MEASURED.append(text)
    return text


def show(terminal: TerminalReporter) -> None:
    if MEASURED:
        terminal.section("measured")
        for text in MEASURED:
            terminal.write_line(text)
