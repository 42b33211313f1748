"""The page: complete, escaped, self-contained, and working in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.report.page import NO_DIAGNOSIS, Provenance, render_page
from tasks.report.records import MissingRecordError, Records, read_records
from tasks.settings import Settings, settings_from_dict
from tests.report.conftest import HOSTILE

ABOUT = Provenance("0" * 40, "make run")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def settings() -> Settings:
    return settings_from_dict({"report": {"title": HOSTILE}})


@pytest.fixture
def page(records: Records, settings: Settings) -> str:
    return render_page(records, settings, "data: {}", ABOUT)


def test_text_from_outside_is_escaped_everywhere(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;") >= 4


def test_data_inside_scripts_cannot_end_them(records: Records, settings: Settings) -> None:
    for training in records.trainings:
        training.steps[0]["gate/</script><b>/x"] = 0.5
    page = render_page(records, settings, "", ABOUT)
    blocks = re.findall(r'<script type="application/json" id="[\w-]+">(.*?)</script>', page)
    assert len(blocks) >= 6
    specs = [json.loads(block) for block in blocks]
    assert any("</script><b>/x" in json.dumps(spec) for spec in specs)


def test_the_page_names_no_outside_address_to_load(page: str) -> None:
    markup = page.split("<script", maxsplit=1)[0]
    assert "<figure>" in markup
    assert not re.findall(r'(?:src|href)="(?!#)', markup)
    assert "default-src 'none'" in page


def test_without_a_diagnosis_the_page_says_so(undiagnosed: Records, settings: Settings) -> None:
    page = render_page(undiagnosed, settings, "", ABOUT)
    assert NO_DIAGNOSIS in page
    assert "data-filter" not in page.split("<script>")[0]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingRecordError, match="Run the stage evaluate first"):
        read_records(tmp_path, ("gru",), (0,))
    folder = tmp_path / "artifacts" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text("{", encoding="utf-8")
    with pytest.raises(MissingRecordError, match=r"comparison\.json is damaged"):
        read_records(tmp_path, ("gru",), (0,))


@pytest.fixture
def browser() -> Iterator[Any]:
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield opened
        opened.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 380)])
def test_in_a_browser(page: str, tmp_path: Path, browser: Any, scheme: str, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, offline=True
    )
    view = context.new_page()
    problems: list[str] = []
    view.on("console", lambda message: problems.append(message.text))
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.on("request", lambda r: None if r.url.startswith("file:") else problems.append(r.url))
    view.goto(path.as_uri())
    view.wait_for_selector(".plot svg")
    assert view.locator(".plot svg").count() == view.locator("[data-chart]").count()
    assert view.title() != "broken"

    shown = view.locator("details.question:visible")
    assert shown.count() == 2
    view.get_by_role("button", name="Needs attention").click()
    assert shown.count() == 1
    view.get_by_role("button", name="Undetermined").click()
    assert shown.count() == 0
    view.get_by_role("button", name="All").click()
    assert shown.count() == 2

    background = "getComputedStyle(document.body).backgroundColor"
    before = view.evaluate(background)
    view.locator("#theme").click()
    assert view.evaluate(background) != before
    # Wide content scrolls inside its own box, never the page.
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    context.close()
