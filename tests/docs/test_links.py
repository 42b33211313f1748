"""Links between pages lead somewhere, and every page can be found from the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import index
from tests.docs.pages import find_pages

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = find_pages(REPOSITORY)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [link.partition("#")[0] for link in LINK.findall(text) if ":" not in link]
    missing = [t for t in targets if t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("made", "path"),
    [(index.render, index.PAGE), (index.render_decisions, index.DECISIONS)],
    ids=["docs", "decisions"],
)
def test_the_indexes_are_current(made: object, path: Path) -> None:
    committed = (REPOSITORY / path).read_text(encoding="utf-8")
    assert committed == made(REPOSITORY), f"{path} is out of date; run `make docs` and commit it."


def test_pictures_are_small() -> None:
    large = [
        f"{path.name}: {path.stat().st_size / 1000:.0f} kB"
        for path in (REPOSITORY / "docs" / "images").glob("*.png")
        if path.stat().st_size > 300_000
    ]
    assert large == []
