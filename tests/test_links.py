"""What the pages link to: files and headings that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/README.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MENTIONED = re.compile(r"\b(?:docs|benchmarks|profiles)/\w+\.(?:md|py|yaml)\b")


def _anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield f"{page.name}: {link}"


def test_links_lead_to_files_and_headings() -> None:
    assert len(PAGES) > 10
    assert not [broken for page in PAGES for broken in _broken(page)]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# The paper's: 3\n[a](#the-papers-3) [b](#other) [c](none.md) [d](page.md) [e](https://there)\n")
    assert list(_broken(page)) == ["page.md: #other", "page.md: none.md"]


def test_files_that_pages_and_profiles_name_are_there() -> None:
    pages = [*PAGES, *ROOT.glob("profiles/*.yaml"), *ROOT.glob("instsynth_dagster/**/*.py"), ROOT / "Makefile"]
    named = {(page, name) for page in pages for name in MENTIONED.findall(page.read_text())}
    assert not [f"{page.relative_to(ROOT)}: {name}" for page, name in named if not (ROOT / name).exists()]
