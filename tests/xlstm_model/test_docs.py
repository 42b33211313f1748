"""The page about the library: its code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import xlstm_model


def test_code_blocks_run_in_order(repository: Path):
    page = (repository / "docs" / "xlstm_model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 7
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/xlstm_model.md block {number}", "exec"), names)
    assert names["scores"].shape == (1, 101)
    assert names["bare"].pattern == "sss"


def test_names_the_page_imports_are_public(repository: Path):
    page = (repository / "docs" / "xlstm_model.md").read_text(encoding="utf-8")
    imported = re.findall(r"^from xlstm_model import (.*)$", page, re.MULTILINE)
    names = {name.strip() for line in imported for name in line.split(",")}
    assert len(names) > 10
    assert names <= set(xlstm_model.__all__)
