"""Trains single changes side by side, those without a setting too, and says what each gives.

    python -m benchmarks.lever_trainings train runs/movielens-100k --to changes.jsonl --workers 12
    python -m benchmarks.lever_trainings table changes.jsonl

A training is the pipeline's own, assembled from the run's settings and changed by one lever of
`benchmarks.lever_changes.listed`; the test set is not read. A line is written when a training
ends, seed by seed, and what a file holds already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SEEDS = "0,1,2"
RESTARTS = 8
"""Times a worker is started again after a failed training, which may have spoiled its GPU."""


def train_one(run: Path, name: str, seed: int, limits: dict[str, Any]) -> dict[str, Any]:
    """Train one lever with one seed.

    Args:
        run: folder with settings and prepared data.
        name: of `LEVERS`.
        seed: of the training.
        limits: further values of ``train.shared``, for a short look.

    Returns:
        What is written as a line.
    """
    import torch

    from benchmarks.lever_changes.listed import LEVERS
    from benchmarks.levers import METRIC, MODEL, SHARED
    from tasks.data.prepared import PreparedData
    from tasks.settings import load_settings, settings_from_dict
    from tasks.training.assemble import assemble
    from tasks.training.loop import train

    lever = LEVERS[name]
    values = load_settings(run / "params.yaml").model_dump(mode="json")
    for section, changes in lever.settings.items():
        values["train"][section].update(changes)
    values["train"][SHARED].update(limits)
    chosen = settings_from_dict(values).train
    torch.set_num_threads(chosen.shared.num_threads)
    data = PreparedData.load(run / "data" / "prepared")
    sections = (chosen.shared.model_dump(), getattr(chosen, MODEL).model_dump())
    trial = lever.apply(assemble(MODEL, data, *sections, seed=seed))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        record = train(trial.parts, trial.plan)
    return {
        "lever": name,
        "seed": seed,
        METRIC: record.best_value,
        **{key: value for key, value in record.as_row().items() if key != "best_value"},
        "max_epochs": trial.plan.max_epochs,
        "num_parameters": trial.recommender.num_parameters,
        "device": str(next(trial.parts.model.parameters()).device.type),
        "precision": trial.plan.precision,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "warnings": sorted({str(warning.message)[:300] for warning in said}),
    }


def jobs_of(names: list[str], seeds: list[int], done: list[dict[str, Any]]) -> list[tuple]:
    """Pairs of lever and seed that are left, the first seed of all levers first.

    >>> jobs_of(["bpr", "as-tuned"], [0, 1], [{"lever": "bpr", "seed": 0}])
    [('as-tuned', 0), ('bpr', 1), ('as-tuned', 1)]
    """
    finished = {(row["lever"], row["seed"]) for row in done if "error" not in row}
    return [(n, s) for s in seeds for n in names if (n, s) not in finished]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Lines of a file of results; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds a line in one write, as several processes do."""
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(row) + "\n").encode())


def work(options: argparse.Namespace) -> int:
    """Train what no other worker has claimed; 1 where a training failed and others may be left."""
    names, seeds = options.names.split(","), [int(seed) for seed in options.seeds.split(",")]
    limits = {"max_epochs": options.max_epochs} if options.max_epochs else {}
    for name, seed in jobs_of(names, seeds, read_rows(options.to)):
        try:
            (options.claims / f"{name}-{seed}").mkdir()
        except FileExistsError:
            continue
        try:
            row = train_one(options.run, name, seed, limits)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:2000]
            append(options.to, {"lever": name, "seed": seed, "error": told})
            return 1
        append(options.to, row)
        print(f"{name} seed {seed}: {row['val/ndcg_at_10']:.4f}, {row['wall_seconds']:.0f} s")
        sys.stdout.flush()
    return 0


def train_all(options: argparse.Namespace) -> None:
    """Keep workers going until everything is trained or the time is up."""
    deadline = time.monotonic() + options.budget
    with tempfile.TemporaryDirectory() as claims:
        threads = [
            threading.Thread(target=_keep_going, args=(options, claims, number, deadline))
            for number in range(options.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _keep_going(options: argparse.Namespace, claims: str, number: int, deadline: float) -> None:
    """Start a worker, and another one after each that a failed training ended."""
    visible = str(number % options.gpus) if options.gpus else ""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.lever_trainings", "work", str(options.run)]
    command += ["--to", str(options.to), "--claims", claims, "--names", options.names]
    command += ["--seeds", options.seeds, "--max-epochs", str(options.max_epochs)]
    for _ in range(RESTARTS):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        limit = remaining if remaining < float("inf") else None
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            return
        if done.returncode == 0:
            return


def values_by_lever(rows: list[dict[str, Any]], metric: str) -> dict[str, list[float]]:
    """Values of each lever in the order of its seeds.

    >>> rows = [{"lever": "bpr", "seed": 1, "m": 0.2}, {"lever": "bpr", "seed": 0, "m": 0.1}]
    >>> values_by_lever([*rows, {"lever": "bce", "seed": 0, "error": "..."}], "m")
    {'bpr': [0.1, 0.2]}
    """
    found: dict[str, list[float]] = {}
    for row in sorted((r for r in rows if "error" not in r), key=lambda row: row["seed"]):
        found.setdefault(row["lever"], []).append(row[metric])
    return found


def print_table(path: Path) -> None:
    """Every lever beside the unchanged training of the same file."""
    from benchmarks.levers import METRIC, table

    rows = read_rows(path)
    print(table(values_by_lever(rows, METRIC)))
    for row in rows:
        if "error" in row:
            print(f"\nfailed: {row['lever']} seed {row['seed']}: {row['error'].splitlines()[0]}")


def main() -> None:
    """Run a step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("train", "work", "table"))
    parser.add_argument("run", type=Path, help="a run's folder, or a file of results")
    parser.add_argument("--to", type=Path, default=Path("levers.jsonl"))
    parser.add_argument("--names", default="", help="levers, separated by commas; all by default")
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--max-epochs", type=int, default=0, help="for a short look; 0 as set")
    parser.add_argument("--claims", type=Path, help="folder that workers share")
    options = parser.parse_args()
    if options.step == "table":
        print_table(options.run)
        return
    if not options.names:
        from benchmarks.lever_changes.listed import LEVERS

        options.names = ",".join(LEVERS)
    options.run, options.to = options.run.resolve(), options.to.resolve()
    if options.step == "work":
        raise SystemExit(work(options))
    train_all(options)


if __name__ == "__main__":
    main()
