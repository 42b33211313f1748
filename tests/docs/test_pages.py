"""The reader of code blocks finds what is on a page, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Page, read_page


def _read(tmp_path: Path, text: str) -> Page:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return read_page(path, "page.md")


@pytest.mark.parametrize(
    ("marker", "language", "kind"),
    [
        ("<!-- runs: fast -->", "python", "fast"),
        ("<!-- runs: long -->", "bash", "long"),
        ("<!-- file: a.py -->", "python", "file"),
        ("<!-- patch -->", "diff", "patch"),
        ("<!-- printed -->", "text", "printed"),
        ("<!-- not run here: needs a network -->", "bash", "skipped"),
        ("<!-- not run here: -->", "bash", "unmarked"),
        ("<!-- runs: sometimes -->", "bash", "unmarked"),
        ("", "bash", "unmarked"),
        ("", "", "unmarked"),
        ("", "text", "text"),
    ],
    ids=lambda value: value or "none",
)
def test_kinds_of_blocks(tmp_path: Path, marker: str, language: str, kind: str) -> None:
    page = _read(tmp_path, f"Words.\n\n{marker}\n```{language}\nls\n```\n")
    (block,) = page.blocks
    assert block.kind == kind
    assert block.text == "ls\n"


def test_a_marker_belongs_to_the_next_block_only(tmp_path: Path) -> None:
    page = _read(tmp_path, "<!-- runs: fast -->\nWords.\n```bash\nls\n```\n")
    assert [block.kind for block in page.blocks] == ["unmarked"]


def test_hidden_commands_and_the_workspace(tmp_path: Path) -> None:
    page = _read(tmp_path, "<!-- workspace: small project -->\n<!-- first: touch a -->\n")
    assert page.workspace == "small project"
    assert [(block.kind, block.text) for block in page.blocks] == [("first", "touch a\n")]


def test_indented_blocks_lose_their_indent(tmp_path: Path) -> None:
    page = _read(tmp_path, "1. Do\n\n   <!-- runs: fast -->\n   ```bash\n   ls\n   ```\n")
    assert [(block.kind, block.text) for block in page.blocks] == [("fast", "ls\n")]


def test_an_open_fence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.md:1: the fence is never closed"):
        _read(tmp_path, "```bash\nls\n")
