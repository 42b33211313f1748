"""A toy project with a real DAG, and one Prefect server for all tests of a session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import prefect_environment
from tasks.settings import settings_from_dict, write_params

DAG = """\
stages:
  fetch:
    cmd: python work.py fetch raw.txt
    params: [data.source]
    deps: [work.py]
    outs: [raw.txt]
  train:
    matrix:
      model: ${experiment.models}
      seed: ${experiment.seeds}
    cmd: python work.py train_${item.model} out/${item.model}_${item.seed}.txt raw.txt
    deps: [raw.txt]
    params: ["train.${item.model}"]
    outs: ["out/${item.model}_${item.seed}.txt"]
  evaluate:
    cmd: python work.py evaluate evaluation.txt out/gru_0.txt out/xlstm_0.txt
    deps: [out]
    outs: [evaluation.txt]
"""
WORK = """\
import os, pathlib, runpy, sys, time
name, out, *sources = sys.argv[1:]
with open("calls.log", "a") as log:
    log.write(f"{name} start {time.time()}\\n")
print(name, "at work", flush=True)
behaviour = pathlib.Path(name + ".py")
if behaviour.exists():
    runpy.run_path(str(behaviour))
pathlib.Path(out).parent.mkdir(exist_ok=True)
pathlib.Path(out).write_text(name + "".join(pathlib.Path(s).read_text() for s in sources))
with open("calls.log", "a") as log:
    log.write(f"{name} end {time.time()}\\n")
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A project of four stages that append to ``calls.log``; ``NAME.py`` runs within a stage."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(DAG)
    (folder / "work.py").write_text(WORK)
    (folder / ".gitignore").write_text(".assay/\n")
    settings = settings_from_dict(
        {
            "experiment": {"name": "toy", "models": ["gru", "xlstm"]},
            "tracking": {"enabled": False},
        }
    )
    write_params(settings, folder / "params.yaml")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
    return folder


def calls(toy: Path) -> list[str]:
    """Names of the stages that ran, in order of their start."""
    path = toy / "calls.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.split()[1] == "start"]


def spans(toy: Path) -> dict[str, tuple[float, float]]:
    """Start and end of each stage's last run."""
    times: dict[str, dict[str, float]] = {}
    for line in (toy / "calls.log").read_text().splitlines():
        name, kind, moment = line.split()
        times.setdefault(name, {})[kind] = float(moment)
    return {name: (each["start"], each["end"]) for name, each in times.items() if "end" in each}


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A temporary Prefect server with a database of its own."""
    prefect_environment.prepare()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def run_experiment(prefect_server: None, toy: Path) -> Callable[..., object]:
    """The experiment flow on the toy project."""
    from flows.experiment import experiment

    def run(**parameters: object) -> object:
        return experiment(workspace=str(toy), **{"retries": 0, **parameters})

    return run
