"""A Prefect server that goes while a run works: the run ends well, or says so and loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.start import answers
from tests.flows.conftest import calls

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("prefect")]
RUN = [
    *(sys.executable, "-c"),
    "from flows.cli import _guarded; from flows.start import run_experiment as r; import sys; "
    "from pathlib import Path; sys.exit(_guarded(lambda: r(Path.cwd())))",
]
START_SECONDS = 240.0


class Server:
    """A server of our own, which can be killed and started again on the same database."""

    def __init__(self, folder: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
        }
        self.log = (folder / "server.log").open("w")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start"]
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port)],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.url):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.5)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        made.log.close()


def run_in(toy: Path, server: Server, repository: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        RUN,
        cwd=toy,
        env={**server.environment, "PYTHONPATH": str(repository), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def await_call(toy: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while name not in calls(toy):
        assert time.monotonic() < deadline, f"{name} did not start"
        time.sleep(0.1)


def test_a_server_that_is_started_again_costs_a_run_nothing(
    toy: Path, server: Server, repository: Path
) -> None:
    (toy / "train_gru.py").write_text("import time; time.sleep(6)")
    run = run_in(toy, server, repository)
    await_call(toy, "train_gru")

    server.kill()
    time.sleep(8)
    server.start()

    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert sorted(calls(toy)) == ["evaluate", "fetch", "train_gru", "train_xlstm"]


def test_without_the_server_a_run_says_so_and_the_next_goes_on(
    toy: Path, server: Server, repository: Path
) -> None:
    (toy / "train_gru.py").write_text("import time; time.sleep(2)")
    run = run_in(toy, server, repository, PREFECT_CLIENT_MAX_RETRIES="1")
    await_call(toy, "train_gru")

    server.kill()

    said, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    assert "Traceback" not in said
    assert f"Prefect server at {server.url}" in said
    assert "same command continues" in said
    done_before = calls(toy)
    again = run_in(toy, server, repository)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert calls(toy)[: len(done_before)] == done_before
    assert calls(toy).count("fetch") == 1
    assert "evaluate" in calls(toy)
