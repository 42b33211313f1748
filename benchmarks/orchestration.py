"""What tracking and orchestration cost, in seconds of wall and processor time.

    python -m benchmarks.orchestration

Everything runs in a temporary folder on a DAG of eight stages that do nothing. Processor time
counts child processes too; on a busy machine it is the number to compare.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import kept

NUM_STAGES = 8
NUM_EPOCHS = 60
STEPS_PER_EPOCH = 5
MEASURED: dict[str, dict[str, float]] = {}
"""What was measured so far, by its name."""


def measured(name: str, work: Callable[[], Any]) -> Any:
    """Run ``work``, print its wall and processor time, return what it returned."""
    wall, cpu = time.perf_counter(), _cpu()
    result = work()
    row = {"seconds": time.perf_counter() - wall, "cpu_seconds": _cpu() - cpu}
    MEASURED[name] = {key: round(value, 3) for key, value in row.items()}
    print(f"{name:<58} {row['seconds']:8.3f} {row['cpu_seconds']:8.3f}", flush=True)
    return result


def _cpu() -> float:
    usages = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def make_project(folder: Path) -> None:
    """A git and DVC repository whose stages write one file each."""
    from tasks.settings import settings_from_dict, write_params

    stages = "".join(
        f"  s{i}:\n    cmd: python -c \"open('o{i}', 'w').write('{i}')\"\n    outs: [o{i}]\n"
        for i in range(NUM_STAGES)
    )
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}")
    (folder / ".gitignore").write_text(".assay/\n")
    settings = settings_from_dict({"tracking": {"enabled": False}})
    write_params(settings, folder / "params.yaml")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)


def log_training(folder: Path) -> None:
    """What a training of sixty epochs logs, without its delivery."""
    from tasks import tracking
    from tasks.settings import Settings

    gradients = {f"grad/block_{i}": 1.0 for i in range(16)}
    with tracking.model_run(Settings(), folder, "xlstm", 0) as run:
        step = 0
        for epoch in range(1, NUM_EPOCHS + 1):
            rows = []
            for _ in range(STEPS_PER_EPOCH):
                step += 20
                rows.append({"step": step, "train/loss": 1.0, **gradients})
            run.on_steps(rows)
            run.on_epoch({"epoch": epoch, "train/loss": 1.0, "val/ndcg_at_10": 0.1, "seconds": 1.0})


def main() -> None:
    """Print the table."""
    from flows import prefect_environment

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    prefect_environment.prepare()
    print(f"{'':<58} {'wall s':>8} {'CPU s':>8}")
    with tempfile.TemporaryDirectory() as place:
        project = Path(place) / "project"
        project.mkdir()
        make_project(project)
        os.environ.update(PREFECT_HOME=f"{place}/prefect", PREFECT_LOGGING_LEVEL="ERROR")
        _measure_tracking(project)
        _measure_flows(project)
    kept.write(MEASURED, options.json)


def _measure_tracking(project: Path) -> None:
    from tasks import tracking
    from tasks.tracking.experiment import DELIVER_LATER

    os.environ[DELIVER_LATER] = "1"
    measured(
        f"log {NUM_EPOCHS} epochs, {NUM_EPOCHS * STEPS_PER_EPOCH} steps of 17 numbers",
        lambda: log_training(project),
    )
    measured(
        "first delivery: import MLflow, create its database", lambda: tracking.deliver(project)
    )
    measured("log the same again, as after a kill", lambda: log_training(project))
    measured("second delivery", lambda: tracking.deliver(project))


def _measure_flows(project: Path) -> None:
    from flows.start import run_experiment

    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "s0"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def one_stage() -> None:
        subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)

    measured("a stage through DVC", one_stage)
    measured("a stage through DVC, nothing to do", one_stage)
    measured("import of Prefect and the flow", lambda: __import__("flows.experiment"))
    measured(
        f"flow, first start of the temporary server, {NUM_STAGES - 1} stages",
        lambda: run_experiment(project),
    )
    measured("assay run with nothing to do", lambda: run_experiment(project))
    from flows.experiment import experiment

    measured(
        f"warm flow, {NUM_STAGES} stages with nothing to do",
        lambda: experiment(workspace=str(project)),
    )


if __name__ == "__main__":
    main()
