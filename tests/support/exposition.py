"""A strict reader of Prometheus' text format 0.0.4 and of OpenMetrics 1.0: what it takes, Prometheus takes too, and
promtool has nothing to say against the names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
LABEL = rf'({NAME})="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
HEAD = re.compile(rf"# (HELP|TYPE) ({NAME}) (\S.*)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LE = re.compile(r"\d+\.\d+|\+Inf")
# what promtool takes for a unit that is not the base unit, or for a type in a name
REFUSED = set(
    "s ms us ns sec b kb mb gb tb m h d milliseconds microseconds nanoseconds minutes hours days kilobytes megabytes bits "
    "percent gauge counter histogram summary untyped".split()
)

Labels = tuple[tuple[str, str], ...]


class Malformed(AssertionError):
    """A line that is not as the format says."""


@dataclass
class Family:
    """name: as HELP and TYPE have it. samples: (name, labels) → number, in the order in which they came."""

    name: str
    help: str
    kind: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        """Of the sample with these labels, whatever its suffix is."""
        (found,) = [v for (_, own), v in self.samples.items() if dict(own) == labels]
        return found

    def labels(self) -> list[str]:
        return sorted({name for _, own in self.samples for name, _ in own} - {"le"})


def must(condition: object, line: str) -> None:
    if not condition:
        raise Malformed(line)


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def sample_names(family: Family, openmetrics: bool) -> set[str]:
    name = family.name
    if family.kind == "histogram":
        return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    if openmetrics and family.kind in ("counter", "info"):
        return {f"{name}_total" if family.kind == "counter" else f"{name}_info"}
    return {name}


def check_names(family: Family, openmetrics: bool) -> None:
    """As promtool does."""
    parts = family.name.split("_")
    must(not REFUSED & set(parts), family.name)
    must((parts[-1] == "total") == (family.kind == "counter" and not openmetrics), family.name)
    must(parts[-1] not in ("bucket", "sum", "count"), family.name)
    kinds = {"counter", "gauge", "histogram"} | ({"info"} if openmetrics else set())
    must(family.kind in kinds, f"{family.name} {family.kind}")
    must(family.samples, f"{family.name} without samples")


def check_histogram(family: Family) -> None:
    """Each series: ascending bounds up to +Inf, counts that do not fall, then sum and count, which is that of +Inf."""
    series: dict[Labels, list[tuple[str, str, float]]] = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        series.setdefault(rest, []).append((name.removeprefix(f"{family.name}_"), dict(labels).get("le", ""), value))
    for rows in series.values():
        must([kind for kind, _, _ in rows] == ["bucket"] * (len(rows) - 2) + ["sum", "count"], family.name)
        bounds = [le for _, le, _ in rows[:-2]]
        must(all(LE.fullmatch(le) for le in bounds) and bounds[-1] == "+Inf", family.name)
        numbers = [float(le) for le in bounds]
        must(numbers == sorted(set(numbers)) and len(numbers) > 2, family.name)
        counts = [value for _, _, value in rows[:-2]]
        must(counts == sorted(counts) and counts[-1] == rows[-1][2], family.name)


def read_sample(line: str, family: Family, openmetrics: bool) -> None:
    match = SAMPLE.fullmatch(line)
    if match is None:
        raise Malformed(line)
    name, value = match[1], match[match.lastindex or 0]
    labels = tuple((key, unescape(text)) for key, text in re.findall(LABEL, match[2] or ""))
    must(name in sample_names(family, openmetrics), line)
    must(len({key for key, _ in labels}) == len(labels), line)
    must(("le" in dict(labels)) == name.endswith("_bucket"), line)
    must(NUMBER.fullmatch(value) and math.isfinite(float(value)), line)
    must((name, labels) not in family.samples, line)
    family.samples[name, labels] = float(value)


def read_lines(lines: list[str], openmetrics: bool) -> dict[str, Family]:
    families: dict[str, Family] = {}
    family: Family | None = None
    for line in lines:
        head = HEAD.fullmatch(line)
        if head and head[1] == "HELP":
            must(head[2] not in families and "\\" not in head[3], line)
            family = families[head[2]] = Family(head[2], head[3])
        elif head:
            must(family and head[2] == family.name and not family.kind, line)
            assert family
            family.kind = head[3]
        else:
            must(family and family.kind, line)
            assert family
            read_sample(line, family, openmetrics)
    return families


def read(text: str, *, openmetrics: bool = False) -> dict[str, Family]:
    """The families of a whole exposition by their names. Raises Malformed."""
    must(text.endswith("\n") and "\r" not in text, text[-80:])
    lines = text[:-1].split("\n")
    if openmetrics:
        must(lines.pop() == "# EOF", text[-80:])
    families = read_lines(lines, openmetrics)
    for family in families.values():
        check_names(family, openmetrics)
        if family.kind == "histogram":
            check_histogram(family)
    return families
