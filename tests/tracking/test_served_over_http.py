"""`mlflow models serve` in a process of its own answers as `assay recommend` does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.serving.workspace import Workspace
from tasks.settings import settings_from_dict
from tasks.tracking import delivery
from tests.serving.conftest import project  # noqa: F401
from tests.tracking.conftest import runs

Post = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def logged(project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """The folder MLflow keeps the project's xLSTM in."""
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(tracking.experiment.DELIVER_LATER, raising=False)
    local = project / ".assay"
    local.mkdir(exist_ok=True)
    (local / "mlflow.db").write_bytes(empty_store.read_bytes())
    settings = settings_from_dict({"experiment": {"name": "toy", "models": ["xlstm"]}})
    with tracking.model_run(settings, project, "xlstm", 0) as run:
        run.log_folder(project / "artifacts" / "models" / "xlstm" / "seed_0")
    client = MlflowClient(tracking.store_uri(project))
    (output,) = runs(client)["xlstm seed 0"].outputs.model_outputs
    location = client.get_logged_model(output.model_id).artifact_location
    yield Path(location.removeprefix("file://"))
    delivery.forget_store(tracking.store_uri(project))


@pytest.fixture
def post(logged: Path, tmp_path: Path) -> Iterator[Post]:
    """Sends a request to a server of that model, started outside the project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", str(logged),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # MLflow starts `uvicorn` by name: a virtual environment that is not activated is not on PATH.
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([scripts, environment["PATH"]])
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip

    def send(body: dict[str, Any]) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        _wait(f"http://127.0.0.1:{port}/ping", server, log)
        yield send
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server did not answer in time:\n{log.read_text()}")


@pytest.mark.long
def test_http_answers_are_those_of_the_workspace(post: Post, project: Path) -> None:  # noqa: F811
    histories = [["i0001", "i0009", "i0004"], ["i0002", "never seen"], []]
    service = Workspace.open(project, "xlstm").service
    queries = [service.query(history) for history in histories]

    status, found = post({"dataframe_records": [{"history": history} for history in histories]})

    assert status == 200
    rows = found["predictions"]
    assert [row["unknown"] for row in rows] == [[], ["never seen"], []]
    assert [row["answered_by"] for row in rows] == ["xlstm", "xlstm", "popularity"]
    for row, answer in zip(rows, service.answer(queries), strict=True):
        assert row["items"] == [service.catalogue.raw_id(item) for item in answer.items]
        assert row["scores"] == pytest.approx(answer.scores, abs=1e-5)

    asked = {
        "dataframe_split": {"columns": ["history"], "data": [[histories[0]]]},
        "params": {"top_k": 3, "filter_seen": True},
    }
    status, found = post(asked)
    (answer,) = service.answer(queries[:1], top_k=3, exclude_seen=True)
    assert status == 200
    assert found["predictions"][0]["scores"] == pytest.approx(answer.scores, abs=1e-5)

    status, message = post({"dataframe_records": [{"items": ["i0001"]}]})
    assert status == 400
    assert "history" in message
