"""Every block of code readers see runs as printed, or says why it does not."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

import pytest

from tests.docs.pages import MARKERS, Block, Page, find_pages, read_page
from tests.docs.workspaces import environment, make_workspace, run_shell, run_with_servers

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [read_page(path, str(path.relative_to(REPOSITORY))) for path in find_pages(REPOSITORY)]
SECONDS = {"fast": 120.0, "long": 1500.0}


def _pages(*kinds: str) -> list[object]:
    wanted = [page for page in PAGES if any(page.has(kind) for kind in kinds)]
    return [pytest.param(page, id=page.name) for page in wanted]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Page) -> None:
    unmarked = [block.place for block in page.blocks if block.kind == "unmarked"]
    assert not unmarked, (
        f"{', '.join(unmarked)}: a block of code without a marker on the line above, or a fence "
        f"without a language (output is `text`). Markers:\n{MARKERS}"
    )
    written = [block for block in page.blocks if block.kind in ("file", "patch")]
    if written:
        later = [b for b in page.blocks if b.line > written[-1].line and b.kind in ("fast", "long")]
        assert later, f"{written[-1].place}: nothing below it uses what it writes."


@pytest.mark.parametrize("page", _pages("fast"))
def test_fast_blocks_run(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _Reader(page, tmp_path, monkeypatch).check({"first", "file", "patch", "fast"})


@pytest.mark.long
@pytest.mark.timeout(1700)
@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize("page", _pages("long", "servers"))
def test_all_blocks_run_in_order(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Reader(page, tmp_path, monkeypatch).check(
        {"first", "file", "patch", "fast", "long", "servers"}
    )


class _Reader:
    """Someone who does what a page says, from top to bottom, in one folder."""

    def __init__(self, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._page = page
        self._folder = make_workspace(page.workspace, tmp_path / "workspace", REPOSITORY)
        monkeypatch.chdir(self._folder)
        monkeypatch.syspath_prepend(str(self._folder))
        self._names: dict[str, object] = {"__name__": "page"}
        self._printed: str | None = None
        self._seconds = SECONDS["fast"]

    def check(self, kinds: set[str]) -> None:
        """Act on the blocks of these kinds."""
        self._seconds = SECONDS["long" if "long" in kinds else "fast"]
        acted = 0
        before = set(sys.modules)
        try:
            for block in self._page.blocks:
                if block.kind == "printed" and self._printed is not None:
                    self._compare(block)
                elif block.kind in kinds:
                    self._act(block)
                    acted += 1
                elif block.kind in ("fast", "long", "servers"):
                    self._printed = None  # left out; what it prints can't be compared
        finally:
            self._forget(before)
        assert acted

    def _act(self, block: Block) -> None:
        if block.kind == "file":
            path = self._folder / block.argument
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.kind == "patch":
            (self._folder / "page.diff").write_text(block.text, encoding="utf-8")
            run_shell("git apply --recount page.diff && rm page.diff", self._folder, 60)
        elif block.kind == "servers":
            ports = block.argument.split()
            self._printed = run_with_servers(block.text, ports, self._folder, self._seconds)
        elif block.language in ("python", "py"):
            self._printed = self._python(block)
        else:
            self._printed = run_shell(block.text, self._folder, self._seconds)

    def _python(self, block: Block) -> str:
        output = io.StringIO()
        # What the block starts is found as in the reader's shell, activated or not.
        path = {"PATH": environment(self._folder)["PATH"]}
        with contextlib.redirect_stdout(output), mock.patch.dict(os.environ, path):
            exec(compile(block.text, block.place, "exec"), self._names)
        return output.getvalue()

    def _compare(self, block: Block) -> None:
        printed = {" ".join(line.split()) for line in (self._printed or "").splitlines()}
        wanted = [" ".join(line.split()) for line in block.text.splitlines()]
        missing = [line for line in wanted if line not in printed | {"", "..."}]
        assert not missing, f"{block.place}: not printed: {missing}\nprinted:\n{self._printed}"

    def _forget(self, before: set[str]) -> None:
        """Let the next page import files of the same name from its own folder."""
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if origin.startswith(str(self._folder)):
                del sys.modules[name]
