"""Usage: coverage.py JSON MINIMUM: what the tests have run of daemon/ and proto/, from gcovr --json, and every place that can
make an error code. Fails below MINIMUM percent of the lines, or when such a place was never reached."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"\bERROR_(?!NONE\b)[A-Z_]+\b")
# what only looks at a code, and the table itself
NO_SITE = re.compile(r"case ERROR_|[!=]= ERROR_|#define|ERROR_N\b")
TABLES = {"proto/errors.c", "proto/errors.h"}

Counts = dict[int, int]


def counts_of(report: str) -> dict[str, Counts]:
    """File → line → how often it was run."""
    files = json.loads(Path(report).read_text())["files"]
    found: dict[str, Counts] = {}
    for file in files:
        lines = found.setdefault(file["file"], {})
        for line in file["lines"]:
            if not line.get("gcovr/noncode", False):
                lines[line["line_number"]] = max(lines.get(line["line_number"], 0), line["count"])
    return found


def error_sites(text: str) -> list[tuple[int, str]]:
    """Line and code of each place that makes one."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not NO_SITE.search(line):
            found += [(number, code) for code in CODE.findall(line.partition("/*")[0])]
    return found


def count_at(lines: Counts, number: int) -> int | None:
    """A statement of several lines is counted at its first, or where gcov thinks that it is. None: it is no code."""
    for near in (number, number - 1, number - 2, number + 1):
        if near in lines:
            return lines[near]
    return None


def missed_sites(files: dict[str, Counts]) -> tuple[int, list[str]]:
    """How many places there are, and those that were not reached."""
    n, missed = 0, []
    for name, lines in sorted(files.items()):
        if name in TABLES:
            continue
        for number, code in error_sites((ROOT / name).read_text()):
            count = count_at(lines, number)
            n += count is not None
            if count == 0:
                missed.append(f"{name}:{number}: {code}")
    return n, missed


def spans(numbers: list[int]) -> str:
    """1 2 3 7 → 1-3,7"""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def main(report: str, minimum: float) -> int:
    files = counts_of(report)
    total = hit = 0
    for name, lines in sorted(files.items()):
        missed = sorted(number for number, count in lines.items() if count == 0)
        total += len(lines)
        hit += len(lines) - len(missed)
        percent = 100 * (len(lines) - len(missed)) / max(1, len(lines))
        print(f"{name:34}{len(lines):6}{percent:7.1f} %  {spans(missed)}")
    n_sites, sites = missed_sites(files)
    percent = 100 * hit / max(1, total)
    for site in sites:
        print(f"never reached: {site}")
    print(f"coverage: {percent:.1f} % of {total} lines (at least {minimum:.0f}), "
          f"{n_sites - len(sites)} of {n_sites} places that make an error code")
    return 1 if percent < minimum or sites else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
