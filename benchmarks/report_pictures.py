"""Pictures of the report and the compare page for the docs, taken in a real Chromium.

    python -m benchmarks.report_pictures --project FOLDER [--run NAME] [RUN RUN ...]

FOLDER is a project with a finished run; RUN RUN are compared (``project`` is its own run), and
without them no picture of the compare page is taken. `benchmarks.ui_pictures` takes those of the
MLflow and Prefect interfaces; ``make pictures`` does both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import compare_runs
from tasks.report.report_stage import REPORT

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAGE_MILLISECONDS = 180_000
"""A busy machine takes its time to draw a page."""

COLOURS = 192
"""Colours of a picture; text and plots need no more, and files stay small."""


@dataclass(frozen=True)
class Picture:
    """One picture: name of the file, page, colour scheme, window in CSS pixels."""

    name: str
    page: Path
    scheme: str
    width: int
    height: int
    scroll_to: str = ""


def plan(report: Path, compared: Path | None) -> list[Picture]:
    """Return the pictures to take of a report, and of a compare page where there is one."""
    pictures = [
        Picture("report_light", report, "light", 1200, 1150),
        Picture("report_dark", report, "dark", 1200, 1250, "#h-inside"),
        Picture("report_phone", report, "light", 390, 1150),
    ]
    if compared is not None:
        pictures.append(Picture("compare", compared, "light", 1200, 1250))
    return pictures


def take(pictures: list[Picture], folder: Path) -> list[Path]:
    """Take the pictures and return their files.

    Raises:
        FileNotFoundError: a page or the browser does not exist.
    """
    from playwright.sync_api import sync_playwright

    missing = [str(picture.page) for picture in pictures if not picture.page.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} does not exist. Make the run first: assay run.")
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        raise FileNotFoundError("there is no Chromium on this machine; install chromium.")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        paths = [_shoot(browser, picture, folder) for picture in pictures]
        browser.close()
    return paths


def _shoot(browser: Any, picture: Picture, folder: Path) -> Path:
    context = browser.new_context(
        color_scheme=picture.scheme,
        viewport={"width": picture.width, "height": picture.height},
        offline=True,
    )
    view = context.new_page()
    view.set_default_timeout(PAGE_MILLISECONDS)
    view.goto(picture.page.resolve().as_uri())
    view.wait_for_selector(".plot svg")
    view.wait_for_function(
        "document.querySelectorAll('.plot svg').length"
        " === document.querySelectorAll('[data-drawn]').length"
    )
    if picture.scroll_to:
        view.evaluate(f"document.querySelector('{picture.scroll_to}').scrollIntoView()")
    path = folder / f"{picture.name}.png"
    view.screenshot(path=str(path), timeout=PAGE_MILLISECONDS)
    context.close()
    _compress(path)
    return path


def _compress(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(COLOURS)
    few.save(path, optimize=True)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; prints name and size of every picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_pictures")
    parser.add_argument("--project", type=Path, default=Path.cwd())
    parser.add_argument("--run", default="", help="run whose report is shown; the project's own")
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("compared", nargs="*", metavar="RUN", help="runs of the compare page")
    chosen = parser.parse_args(arguments)
    folder = chosen.project / "runs" / chosen.run if chosen.run else chosen.project
    compared = None
    if chosen.compared:
        with contextlib.redirect_stdout(io.StringIO()):
            compare_runs.compare(chosen.project, chosen.compared, as_json=False)
        compared = chosen.project / compare_runs.PAGE
    try:
        for path in take(plan(folder / REPORT, compared), chosen.images):
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
