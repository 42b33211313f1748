"""The deployments of ``prefect.yaml`` run under a real server and worker, on their schedule."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.conftest import calls

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.fixture
def project(toy: Path, repository: Path) -> Path:
    """The toy project as a clone: with our flows and deployments."""
    for name in ("flows", "tasks", "xlstm_model"):
        (toy / name).symlink_to(repository / name)
    shutil.copyfile(repository / "prefect.yaml", toy / "prefect.yaml")
    return toy


@pytest.fixture
def environment(project: Path, tmp_path: Path) -> dict[str, str]:
    """A Prefect of its own: database, profile and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PWD": str(project),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "ASSAY_TEST_PORT": str(port),
    }


@pytest.fixture
def server(project: Path, environment: dict[str, str]) -> Iterator[str]:
    """A running server; its address."""
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1"]
    with _Background([*command, "--port", environment["ASSAY_TEST_PORT"]], project, environment):
        url = environment["PREFECT_API_URL"]
        _wait_until(lambda: _healthy(url), seconds=240, what="the server")
        yield url


def test_a_scheduled_run_completes(project: Path, environment: dict[str, str], server: str) -> None:
    _prefect("work-pool", "create", "local", "--type", "process", project, environment)
    _prefect("deploy", "--all", project, environment)
    with _Background([*PREFECT, "worker", "start", "--pool", "local"], project, environment):
        _prefect(
            "deployment",
            "run",
            "experiment/weekly",
            "--start-in",
            "5 seconds",
            project,
            environment,
        )
        _wait_until(lambda: _finished(server, "experiment"), seconds=400, what="the scheduled run")

    (run,) = [each for each in _flow_runs(server) if each["state_type"] not in ("SCHEDULED",)]
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "toy: 4 ran"
    assert sorted(calls(project)) == ["evaluate", "fetch", "train_gru", "train_xlstm"]
    assert (project / "dvc.lock").exists()
    # The server plans what the cron lines say.
    nightly = [each for each in _flow_runs(server) if each["state_type"] == "SCHEDULED"]
    times = {each["expected_start_time"][11:16] for each in nightly}
    assert {"02:30", "04:00"} <= times


def test_runs_that_fall_together_take_turns(
    project: Path, environment: dict[str, str], server: str
) -> None:
    dag = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        dag.replace(
            "cmd: python work.py fetch", "always_changed: true\n    cmd: python work.py fetch"
        )
    )
    (project / "fetch.py").write_text("import time; time.sleep(5)")
    _prefect("work-pool", "create", "local", "--type", "process", project, environment)
    _prefect("deploy", "--all", project, environment)
    for _ in range(3):
        words = ("deployment", "run", "experiment/weekly", "--start-in", "3 seconds")
        _prefect(*words, project, environment)
    # As many runs at a time as the worker likes: the deployment itself lets one in.
    with _Background([*PREFECT, "worker", "start", "--pool", "local"], project, environment):
        _wait_until(lambda: _count_ended(server) >= 3, seconds=600, what="three runs")

    ended = [run for run in _flow_runs(server) if run["state_type"] in ENDED]
    assert [run["state_type"] for run in ended] == ["COMPLETED"] * 3
    fetched = [line.split() for line in (project / "calls.log").read_text().splitlines()]
    # One after the other, and each once.
    assert [kind for name, kind, _ in fetched if name == "fetch"] == ["start", "end"] * 3
    assert calls(project).count("evaluate") == 1
    assert not (project / ".assay" / "lock.json").exists()


def _count_ended(url: str) -> int:
    return sum(run["state_type"] in ENDED for run in _flow_runs(url))


def _prefect(*arguments: Any) -> None:
    *words, folder, environment = arguments
    done = subprocess.run(
        [*PREFECT, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


class _Background:
    """A command that runs until the block ends."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._log = (folder.parent / f"{command[3]}.log").open("w")
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _flow_runs(url: str) -> list[dict[str, Any]]:
    reply = httpx.post(f"{url}/flow_runs/filter", json={"limit": 200}, timeout=30)
    reply.raise_for_status()
    return list(reply.json())


def _finished(url: str, flow: str) -> bool:
    return any(run["state_type"] in ENDED for run in _flow_runs(url))


def _wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds:.0f} s"
        time.sleep(1)
