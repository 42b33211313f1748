"""The page in a real browser: filters, themes, plots, links, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import opened
from tests.report.conftest import HOSTILE, specs_of


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1200), ("dark", 1200), ("light", 380)],
    ids=["light", "dark", "phone"],
)
def test_in_a_browser(page: str, tmp_path: Path, browser: Any, scheme: str, width: int) -> None:
    with opened(browser, page, tmp_path, scheme=scheme, width=width) as (view, problems):
        shown = view.locator("details.question:visible")
        assert shown.count() == 3
        view.get_by_role("button", name="Needs attention").click()
        assert shown.count() == 1
        view.get_by_role("button", name="Undetermined").click()
        assert shown.count() == 1
        view.get_by_role("button", name="All").click()
        assert shown.count() == 3

        background = "getComputedStyle(document.body).backgroundColor"
        before = view.evaluate(background)
        view.locator("#theme").click()
        assert view.evaluate(background) != before
        # Wide content scrolls inside its own box, never the page.
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.title() != "broken"
        assert problems == []


def test_plots_are_drawn_when_they_show_and_their_numbers_can_be_read(
    page: str, tmp_path: Path, browser: Any
) -> None:
    with opened(browser, page, tmp_path) as (view, problems):
        view.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        places = view.locator("[data-chart]")
        view.wait_for_function(
            "document.querySelectorAll('.plot svg').length"
            " === document.querySelectorAll('[data-chart]').length"
        )
        assert places.count() == len(specs_of(page))
        numbers = view.locator("[data-numbers=inside-map] td")
        assert HOSTILE in numbers.all_inner_texts()
        assert problems == []
        assert view.title() != "broken"


def test_a_link_opens_its_question_even_while_a_filter_hides_it(
    page: str, tmp_path: Path, browser: Any
) -> None:
    with opened(browser, page, tmp_path) as (view, problems):
        view.get_by_role("button", name="Undetermined").click()
        view.locator(".answer a").first.click()
        view.wait_for_selector("#order_and_flow[open]")
        assert view.locator("#order_and_flow table:visible").count() == 1
        view.keyboard.press("Tab")
        assert view.evaluate("document.activeElement !== document.body")
        assert problems == []


def test_in_print_nothing_is_cut_off(page: str, tmp_path: Path, browser: Any) -> None:
    with opened(browser, page, tmp_path, scheme="dark", width=740) as (view, _):
        view.emulate_media(media="print")
        view.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert view.evaluate("document.documentElement.scrollWidth") <= 740
        assert view.locator(".filters:visible").count() == 0
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert view.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == (
            "visible"
        )
