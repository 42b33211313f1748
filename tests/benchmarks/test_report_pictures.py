"""The docs' pictures of the report: planned, taken in a real browser, and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report_pictures import main, plan, take
from tests.report.browser import find_browser

PAGE = """<!doctype html><html><body style="background:canvas"><h2 id="h-inside">Inside</h2>
<div class="plot" data-drawn><svg width="20" height="20"></svg></div>
<style>:root { color-scheme: light dark }</style></body></html>"""
MAX_BYTES = 300_000


def test_a_compare_page_is_pictured_only_where_there_is_one(tmp_path: Path) -> None:
    names = [picture.name for picture in plan(tmp_path / "r.html", None)]
    assert names == ["report_light", "report_dark", "report_phone"]
    assert plan(tmp_path / "r.html", tmp_path / "c.html")[-1].name == "compare"


def test_a_run_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(tmp_path), "--images", str(tmp_path)]) == 2
    assert "report.html does not exist" in capsys.readouterr().err


@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_pictures_are_small_files_of_the_size_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    page = tmp_path / "page.html"
    page.write_text(PAGE, encoding="utf-8")
    pictures = plan(page, page)
    paths = take(pictures, tmp_path / "images")
    assert [path.stem for path in paths] == [picture.name for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        assert path.stat().st_size < MAX_BYTES
        with Image.open(path) as image:
            assert image.size == (picture.width, picture.height)
            corner = image.convert("RGB").getpixel((picture.width - 1, picture.height - 1))
        assert (sum(corner) > 600) == (picture.scheme == "light")
