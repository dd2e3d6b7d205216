"""The pages point to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]


def prose(page: Path) -> str:
    """Without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def missing(page: Path) -> list[str]:
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert missing(page) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, `so`\n[a](page.md#a-heading-so) [b](none.md) [c](#none)\n"
                    "```\n[d](none.md)\n```\n[e](https://e.example/)\n")
    assert missing(page) == ["none.md", "#none"]


def test_every_page_is_named_on_another() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {Path(link.partition("#")[0]).name for link in re.findall(r"\]\(([^)\s]+)\)", text)}
    decisions = ROOT / "docs" / "decisions"  # a list of its own: the directory is named
    assert [p.name for p in PAGES if p.parent == ROOT / "docs" and p.name not in named] == []
    assert decisions.name in text
