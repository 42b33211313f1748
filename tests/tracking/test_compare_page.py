"""MLflow's compare page, in a real browser, shows every model with its metrics."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks import tracking
from tests.tracking.conftest import children, parents, toy_settings, train, write_evaluation

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
RANKS = {"popularity": [4, 9, 9, 30], "gru": [2, 3, 5, 30], "xlstm": [1, 2, 5, 30]}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a headless browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1600, "height": 1400})
        browser.close()


@pytest.fixture
def server(workspace: Path, tmp_path: Path) -> Iterator[str]:
    """MLflow's server on loopback over the workspace's store; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", tracking.store_uri(workspace)]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_the_compare_page_shows_all_models(
    workspace: Path, client: Any, server: str, page: Any
) -> None:
    settings = toy_settings(experiment={"name": "toy", "models": list(RANKS)})
    for model in RANKS:
        train(settings, workspace, model)
    write_evaluation(workspace, RANKS)
    tracking.log_evaluation(settings, workspace)
    tracking.log_report(settings, workspace)
    (parent,) = parents(client)
    runs = children(client, parent)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    ids = json.dumps([run.info.run_id for run in runs.values()])
    query = urllib.parse.urlencode(
        {"runs": ids, "experiments": json.dumps([parent.info.experiment_id])}
    )
    page.goto(f"{server}/#/compare-runs?{query}")
    page.get_by_text("test/ndcg_at_10").first.wait_for(timeout=120_000)
    text = page.inner_text("body")

    for name, run in runs.items():
        assert name in text
        value = run.data.metrics["test/ndcg_at_10"]
        assert f"{value:.3f}" in text
    assert "model.num_layers" in text
    outside = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    assert outside == []


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer within {seconds:.0f} s")
