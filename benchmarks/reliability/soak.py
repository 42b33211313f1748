"""Runs the deployments of prefect.yaml on a schedule, kills some runs, and counts what came of all.

    python -m benchmarks.reliability.soak --runs 50

A real Prefect server and worker, and a project of its own whose one stage always runs. The
deployment ``weekly`` gets a schedule of seconds. The worker starts late, so that the first runs are
due before anybody works; some flow processes are killed with SIGKILL; half-way the server is
killed and started again; one command starts in the busy workspace. Writes
docs/reliability/soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path("docs") / "reliability" / "soak.json"
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DAG = """\
stages:
  fetch:
    cmd: python work.py
    always_changed: true
    outs: [out.txt]
"""
WORK = """\
import pathlib, time
with open("calls.log", "a") as log:
    log.write("start\\n")
time.sleep(1)
pathlib.Path("out.txt").write_text("done")
with open("calls.log", "a") as log:
    log.write("end\\n")
"""


class Soak:
    """One server, one worker and the runs they are given."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.log = (folder / "prefect.log").open("w")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "PREFECT" not in name},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PWD": str(self.project),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
            "DVC_NO_ANALYTICS": "1",
        }

    def make_project(self) -> None:
        """A clone in small."""
        from tasks.settings import settings_from_dict, write_params

        self.project.mkdir(parents=True)
        for name in ("flows", "tasks", "xlstm_model"):
            (self.project / name).symlink_to(REPOSITORY / name)
        shutil.copyfile(REPOSITORY / "prefect.yaml", self.project / "prefect.yaml")
        shutil.copyfile(REPOSITORY / ".dvcignore", self.project / ".dvcignore")
        (self.project / "dvc.yaml").write_text(DAG)
        (self.project / "work.py").write_text(WORK)
        settings = settings_from_dict({"tracking": {"enabled": False}})
        write_params(settings, self.project / "params.yaml")
        for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
            subprocess.run(command, cwd=self.project, check=True, env=self.environment)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a Prefect command that goes on."""
        command = [*PREFECT, *words]
        return subprocess.Popen(
            command, cwd=self.project, env=self.environment, stdout=self.log, stderr=self.log
        )

    def call(self, *words: str) -> None:
        """Run a Prefect command to its end."""
        command = [*PREFECT, *words]
        subprocess.run(command, cwd=self.project, env=self.environment, check=True, stdout=self.log)

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        self.server = self.start("server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        assert wait_until(self.is_healthy, 240), "the server did not start"

    def restart_server(self) -> None:
        """Kill the server as a crash does, and start it again on the same database."""
        family = [self.server, *psutil.Process(self.server.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self.server.wait()
        time.sleep(3)
        self.start_server()

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        return httpx.get(f"{self.url}/health", timeout=5).status_code == 200

    def post(self, path: str, **content: Any) -> Any:
        """Ask the server."""
        reply = httpx.post(f"{self.url}/{path}", json=content, timeout=60)
        reply.raise_for_status()
        return reply.json()

    def runs(self) -> list[dict[str, Any]]:
        """All runs of flows that were started by a deployment."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.post("flow_runs/filter", limit=200, offset=len(found))
            found += page
            if len(page) < 200:
                return [run for run in found if run["deployment_id"]]

    def deployment(self, name: str) -> str:
        """Id of a deployment."""
        (found,) = self.post("deployments/filter", deployments={"name": {"any_": [name]}})
        return str(found["id"])

    def kill_one(self, rng: random.Random) -> str:
        """Kill the process of a run in progress; returns the run's id, or nothing."""
        running = [run for run in self.runs() if run["state_type"] == "RUNNING"]
        if not running:
            return ""
        run = rng.choice(running)
        _, _, pid = str(run["infrastructure_pid"]).rpartition(":")
        time.sleep(rng.uniform(0, 2))
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pid), signal.SIGKILL)
            return str(run["id"])
        return ""


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether something became true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if condition():
                return True
        time.sleep(1)
    return False


def soak(folder: Path, num_runs: int, every: float, minutes: float) -> dict[str, Any]:
    """Run everything in ``folder`` and return the figures.

    Args:
        folder: An empty folder.
        num_runs: Runs to wait for.
        every: Seconds between two scheduled runs.
        minutes: Longest time.
    """
    place = Soak(folder)
    place.make_project()
    try:
        place.start_server()
        place.call("work-pool", "create", "local", "--type", "process")
        place.call("deploy", "--all")
        weekly = place.deployment("weekly")
        rule = {"schedule": {"interval": every}, "active": True}
        reply = httpx.post(f"{place.url}/deployments/{weekly}/schedules", json=[rule], timeout=60)
        reply.raise_for_status()
        return _watch(place, num_runs, minutes)
    finally:
        place.server.terminate()
        place.server.wait(timeout=60)
        place.log.close()


def _watch(place: Soak, num_runs: int, minutes: float) -> dict[str, Any]:
    started, rng = time.monotonic(), random.Random(0)
    seen_late: set[str] = set()
    killed: set[str] = set()
    # Nobody works at first: the runs that are due are marked as late.
    wait_until(lambda: any(run["state_name"] == "Late" for run in place.runs()), 180)
    seen_late |= {run["id"] for run in place.runs() if run["state_name"] == "Late"}
    worker = place.start("worker", "start", "--pool", "local", "--limit", "1")
    busy_refused = restarts = 0
    try:
        while time.monotonic() - started < minutes * 60:
            runs = place.runs()
            ended = [run for run in runs if run["state_type"] in ENDED]
            seen_late |= {run["id"] for run in runs if run["state_name"] == "Late"}
            if len(ended) >= num_runs:
                break
            if len(killed) < max(1, num_runs // 10) and len(ended) >= 2 * len(killed) + 1:
                killed |= {place.kill_one(rng)} - {""}
            if not restarts and len(ended) >= num_runs // 2:
                place.restart_server()
                restarts += 1
            if not busy_refused and any(run["state_type"] == "RUNNING" for run in runs):
                busy_refused = _start_beside(place)
            time.sleep(1)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    figures = _figures(place, killed, seen_late, busy_refused, time.monotonic() - started)
    return {**figures, "server_restarts": restarts}


def _start_beside(place: Soak) -> int:
    """1 if a command in the busy workspace was turned away, 0 if it found it free."""
    command = [sys.executable, "-c", "from tasks.lock import refuse_if_busy as r; "
               "from pathlib import Path; r(Path.cwd())"]  # fmt: skip
    done = subprocess.run(
        command, cwd=place.project, env=place.environment, capture_output=True, text=True
    )
    return int("WorkspaceBusyError" in done.stderr)


def _figures(
    place: Soak, killed: set[str], late: set[str], busy_refused: int, seconds: float
) -> dict[str, Any]:
    runs = place.runs()
    ended = [run for run in runs if run["state_type"] in ENDED]
    by_state = Counter(run["state_type"] for run in ended)
    due = [run for run in runs if run["state_type"] in ("SCHEDULED", "PENDING", "RUNNING")]
    calls = (place.project / "calls.log").read_text().split()
    newest = max((run["expected_start_time"] for run in ended), default="")
    unexpected = [
        f"{run['name']}: {run['state_type']}, {(run['state'] or {}).get('message')}"[:300]
        for run in ended
        if run["state_type"] != "COMPLETED" and run["id"] not in killed
    ]
    return {
        "minutes": round(seconds / 60, 1),
        "ended": len(ended),
        "by_state": dict(by_state),
        "killed": len(killed),
        "killed_states": dict(Counter(r["state_type"] for r in ended if r["id"] in killed)),
        "late": len(late),
        "late_that_ran": sum(run["id"] in late for run in ended),
        "stage_starts": calls.count("start"),
        "stage_ends": calls.count("end"),
        "lost": sum(run["expected_start_time"] < newest for run in due),
        "doubled": max(0, calls.count("end") - by_state["COMPLETED"] - len(killed)),
        "refused_beside_a_run": busy_refused,
        "unexpected": unexpected,
    }


def main() -> None:
    """Run the soak test and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two runs")
    parser.add_argument("--minutes", type=float, default=60.0, help="longest time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), options.runs, options.every, options.minutes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
