"""Reads the fenced code blocks of a page, and the markers that say what a test does with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal[
    *("fast", "long", "servers", "file", "patch", "first", "printed", "skipped", "unmarked", "text")
]

CODE = ("bash", "sh", "shell", "console", "python", "py", "diff", "yaml", "json")
"""Languages a block may not have without a marker; ``text`` and other languages are prose."""

MARKERS = """\
<!-- runs: fast -->           run in an ordinary test (seconds)
<!-- runs: long -->           run in a long test
<!-- servers: PORT ... -->    run in a long test; lines that start a server, one per port (`-` for a
                             worker), go on beside those below until the block has ended
<!-- file: NAME -->           written to NAME in the workspace, for blocks below
<!-- patch -->                a diff, applied to the workspace with `git apply`
<!-- printed -->              every line occurs in what the block above printed; `...` skips lines
<!-- not run here: REASON --> not run, and why
Standing alone: <!-- first: COMMAND --> runs a command readers do not see;
<!-- workspace: folder|project|small project --> says where the page's blocks run."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>[\w+-]*).*$")
_COMMENT = re.compile(r"^ *<!-- *(?P<text>.*?) *-->$")


@dataclass(frozen=True)
class Block:
    """One thing on a page that a test acts on.

    Attributes:
        page: The page, relative to the repository.
        line: Line number of its first line.
        language: What stands behind the fence; "" where nothing does.
        kind: What to do with it.
        argument: File name, hidden command, or reason.
        text: What the fence holds.
    """

    page: str
    line: int
    language: str
    kind: Kind
    argument: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page with its blocks in order."""

    name: str
    workspace: str
    blocks: tuple[Block, ...]

    def has(self, kind: Kind) -> bool:
        """Whether a block of that kind is on the page."""
        return any(block.kind == kind for block in self.blocks)


def find_pages(repository: Path) -> list[Path]:
    """Every page that shows code to readers."""
    top = [repository / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*top, *sorted((repository / "docs").rglob("*.md"))]


def read_page(path: Path, name: str) -> Page:
    """Parse one page.

    Args:
        path: The file.
        name: What to call it.

    Raises:
        ValueError: a marker that is none, or a fence that is not closed.
    """
    workspace, blocks, marker = "folder", [], ""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.match(line):
            end = _closing(lines, number, fence, name)
            cut = len(fence["indent"])
            text = "".join(f"{row[cut:]}\n" for row in lines[number + 1 : end])
            kind, argument = _kind(marker, fence["language"], f"{name}:{number + 1}")
            blocks.append(Block(name, number + 1, fence["language"], kind, argument, text))
            marker, number = "", end
        elif comment := _COMMENT.match(line):
            word, _, rest = comment["text"].partition(":")
            if word == "workspace":
                workspace = rest.strip()
            elif word == "first":
                blocks.append(Block(name, number + 1, "bash", "first", "", rest.strip() + "\n"))
            else:
                marker = comment["text"]
        elif line.strip():
            marker = ""
        number += 1
    return Page(name, workspace, tuple(blocks))


def _closing(lines: list[str], start: int, fence: re.Match[str], name: str) -> int:
    for number in range(start + 1, len(lines)):
        if lines[number].strip() == fence["fence"]:
            return number
    raise ValueError(f"{name}:{start + 1}: the fence is never closed.")


def _kind(marker: str, language: str, place: str) -> tuple[Kind, str]:
    word, _, rest = (part.strip() for part in marker.partition(":"))
    if word == "runs" and rest in ("fast", "long"):
        return rest, ""
    if word == "file" and rest:
        return "file", rest
    if word == "servers" and re.fullmatch(r"(\d+|-)( (\d+|-))*", rest):
        return word, rest
    if word in ("patch", "printed") and not rest:
        return word, ""
    if word == "not run here" and rest:
        return "skipped", rest
    # Other comments are for editors and other tools.
    return ("unmarked" if language in ("", *CODE) else "text"), ""
