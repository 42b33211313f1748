"""Opens a page in a real browser and watches for what should not happen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def find_browser() -> str | None:
    """Path of a Chromium, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def opened(
    browser: Any, text: str, folder: Path, *, scheme: str = "light", width: int = 1200
) -> Iterator[tuple[Any, list[str]]]:
    """Open a page from disk without a network; gives it and the list of what went wrong."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
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
    try:
        yield view, problems
    finally:
        context.close()
