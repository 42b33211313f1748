"""Pictures of the MLflow and Prefect interfaces for the docs, taken in a real Chromium.

    python -m benchmarks.ui_pictures --project FOLDER

FOLDER is a project with two or more finished runs whose stores are looked at; nothing is changed
there. The servers listen on this machine only and end with the command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tasks import tracking

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SETTLE_MILLISECONDS = 8000
PAGE_MILLISECONDS = 180_000
MAX_BYTES = 300_000
CLOSE_PANEL = '[data-component-id="mlflow.assistant.chat_panel.close"]'

Look = Callable[[Any, str], None]


def take(project: Path, tools: list[str], only: list[str]) -> bool:
    """Take pictures; return whether every one could be taken.

    Args:
        project: Project with finished runs.
        tools: mlflow, prefect or both.
        only: Names of the pictures to take; all where empty.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    taken: list[bool] = []
    with _browser() as browser:
        if "mlflow" in tools:
            with _served(_mlflow_command(project), "/health") as address:
                for name, look in _mlflow_looks(project):
                    if not only or name in only:
                        taken.append(_shoot(browser, name, look, address))
        if "prefect" in tools:
            with _served(_prefect_command(), "/api/health") as address:
                for name, look in _prefect_looks(address):
                    if not only or name in only:
                        taken.append(_shoot(browser, name, look, address))
    return all(taken)


def _shoot(browser: Any, name: str, look: Look, address: str) -> bool:
    """Take one picture, in fewer colours where it would be too large; False where it failed."""
    from playwright.sync_api import TimeoutError as PageTimeoutError

    # A profile of its own: pages remember what was open, and are shown as they open first.
    page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
    page.set_default_timeout(PAGE_MILLISECONDS)
    path = IMAGES / f"{name}.png"
    try:
        look(page, address)
        panel = page.locator(CLOSE_PANEL)
        if panel.count():
            # MLflow opens a panel of its own beside every page until it is closed once.
            panel.first.click()
        page.wait_for_timeout(SETTLE_MILLISECONDS)
        page.screenshot(path=str(path))
    except PageTimeoutError as error:
        print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return False
    finally:
        page.close()
    if path.stat().st_size > MAX_BYTES:
        from PIL import Image

        with Image.open(path) as image:
            image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)
    return True


def _mlflow_looks(project: Path) -> list[tuple[str, Look]]:
    client = MlflowClient(tracking.store_uri(project))
    parent, children = _newest_experiment(client)
    experiment = parent.info.experiment_id
    ids = urllib.parse.quote(json.dumps([run.info.run_id for run in children]))
    experiments = urllib.parse.quote(json.dumps([experiment]))

    def at(path: str, wait_for: str) -> Look:
        def look(page: Any, address: str) -> None:
            page.goto(f"{address}/#/{path}")
            page.get_by_text(wait_for).first.wait_for(timeout=PAGE_MILLISECONDS)

        return look

    runs, best = f"experiments/{experiment}/runs", children[0].info.run_name
    view = f"{runs}?viewStateShareKey=assay"
    return [
        ("mlflow_runs", at(runs, best)),
        ("mlflow_models", at(f"{view}-models", best)),
        ("mlflow_charts", at(f"{runs}?compareRunsMode=CHART", best)),
        ("mlflow_curves", at(f"{view}-curves&compareRunsMode=CHART", best)),
        ("mlflow_compare", at(f"compare-runs?runs={ids}&experiments={experiments}", "Run details")),
        ("mlflow_run", at(f"{runs}/{parent.info.run_id}", "Test NDCG@10")),
    ]


def _newest_experiment(client: MlflowClient) -> tuple[Run, list[Run]]:
    """The newest finished parent run and its children, best first.

    Raises:
        SystemExit: there is none.
    """
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        "tags.`assay.kind` = 'experiment' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        raise SystemExit("no finished experiment in the store; run `assay run` there first.")
    (parent,) = found
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return parent, sorted(children, key=lambda run: -run.data.metrics.get("test/ndcg_at_10", 0.0))


def _prefect_looks(address: str) -> list[tuple[str, Look]]:
    request = urllib.request.Request(
        f"{address}/api/flow_runs/filter",
        data=json.dumps(
            {"sort": "START_TIME_DESC", "limit": 1, "flows": {"name": {"any_": ["experiment"]}}}
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        found = json.load(reply)
    if not found:
        sys.exit(
            "Prefect knows no run of the flow `experiment`: set PREFECT_HOME as it was for `assay "
            "run`, or remove the results, so that it has something to do."
        )
    run = found[0]

    def runs(page: Any, address: str) -> None:
        page.goto(f"{address}/runs")
        page.get_by_text(run["name"]).first.wait_for(timeout=PAGE_MILLISECONDS)

    def one(page: Any, address: str) -> None:
        page.goto(f"{address}/runs/flow-run/{run['id']}")
        page.get_by_text(run["name"]).first.wait_for(timeout=PAGE_MILLISECONDS)

    def artifacts(page: Any, address: str) -> None:
        one(page, address)
        page.get_by_text("Artifacts", exact=True).first.click()

    return [("prefect_runs", runs), ("prefect_run", one), ("prefect_artifacts", artifacts)]


def _mlflow_command(project: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", tracking.store_uri(project)),
    ]


def _prefect_command() -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start"]


@contextmanager
def _served(command: list[str], health: str) -> Iterator[str]:
    """A server on a free port of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PREFECT_UI_API_URL": f"{address}/api"},
        )
        try:
            _wait_for(address + health, process)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}.")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"{url} did not answer within {seconds:.0f} s.")


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise SystemExit(f"no browser on this machine (looked for {', '.join(BROWSERS)}).")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--project", type=Path, default=Path.cwd())
    parser.add_argument("--tool", choices=("mlflow", "prefect"), action="append")
    parser.add_argument("--only", action="append", metavar="NAME", help="one picture")
    options = parser.parse_args()
    tools = options.tool or ["mlflow", "prefect"]
    sys.exit(not take(options.project.resolve(), tools, options.only or []))


if __name__ == "__main__":
    main()
