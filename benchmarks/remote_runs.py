"""Searches and trains many runs on another machine, one with GPUs, in a few calls.

Here: pack what the other machine needs, prepared data and settings of runs below ``runs/``::

    python -m benchmarks.remote_runs pack movielens-100k movietweetings --to carry

There, beside this project's code, with torch, NumPy, pydantic, ruamel.yaml, Optuna and Polars::

    python -m benchmarks.remote_runs tune carry/movielens-100k --trials 24 --workers 40
    python -m benchmarks.remote_runs train carry/* --workers 12 --gpus 4 --evaluate
    python -m benchmarks.remote_runs collect carry/* --to out

Here again: results go to their places, as if the stages had run here, and the trials of a search
can be continued, saved as a preset or compared. Weights stay there but of runs named for them::

    python -m benchmarks.remote_runs unpack out/*.tar.gz
    assay compare movielens-100k movietweetings
"""

from __future__ import annotations

import argparse
import subprocess
import tarfile
import time
from functools import partial
from pathlib import Path

from benchmarks.remote_work import Plan, make_jobs, work_off
from tasks.settings import load_settings, settings_from_dict, write_params

ROOT = Path(__file__).resolve().parents[1]
STORAGE = Path(".assay") / "tuning" / "journal.log"
RESULTS = ("artifacts/models", "artifacts/evaluation", ".assay/tuning", "params.yaml")
WEIGHTS = "model.safetensors"
PART_BYTES = 12_000_000
"""Bytes of one archive, about, unless one file alone is larger."""
TEXT_SHRINKS = 4
"""How much smaller records get when they are compressed, at least."""


def pack(names: list[str], target: Path) -> None:
    """Copy settings and prepared data of runs; tracking stays at home."""
    for name in names:
        source, folder = ROOT / "runs" / name, target / name
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        (folder / "data").mkdir(parents=True)
        subprocess.run(
            ["cp", "-rL", str(source / "data/prepared"), str(folder / "data")], check=True
        )
        for generator in (source / "data/raw").glob("generator.*"):  # the best possible scores
            (folder / "data/raw").mkdir(exist_ok=True)
            (folder / "data/raw" / generator.name).write_bytes(generator.read_bytes())
        values = load_settings(source / "params.yaml").model_dump(mode="json")
        values["tracking"]["enabled"] = False
        write_params(settings_from_dict(values), folder / "params.yaml")
        if (source / STORAGE).is_file():
            (folder / STORAGE).parent.mkdir(parents=True)
            (folder / STORAGE).write_bytes((source / STORAGE).read_bytes())


def tune(
    folder: Path, models: list[str], trials: int, workers: int, devices: list[str], budget: float
) -> None:
    """Search a run's settings and write the best into its ``params.yaml``."""
    from flows.tune_command import describe, make_search, with_sections
    from tasks.tuning.study import best_section, run_search

    settings = load_settings(folder / "params.yaml")
    search = make_search(settings, folder / "data" / "prepared", folder / STORAGE, models, trials)

    def tell(model: str, trial: object) -> None:
        print(folder.name, describe(model, trial), flush=True)

    counts = run_search(search, workers=workers, devices=devices, budget=budget, on_trial=tell)
    found = {model: best_section(search, model) for model in search.models}
    sections = {model: section for model, (section, _) in found.items()}
    write_params(with_sections(settings, sections), folder / "params.yaml")
    for model, (section, value) in found.items():
        print(f"{folder.name} {model}: {value:.4f} of {counts[model]} trials: {section}")


def collect(folders: list[Path], target: Path, weights: list[str]) -> None:
    """Write archives of what the runs left; weights only of the runs that are named for it."""
    target.mkdir(parents=True, exist_ok=True)
    files = [
        (path, f"{folder.name}/{path.relative_to(folder)}")
        for folder in folders
        for result in RESULTS
        for path in sorted([folder / result, *(folder / result).rglob("*")])
        if path.is_file() and (path.name != WEIGHTS or folder.name in weights)
    ]
    parts: list[list[tuple[Path, str]]] = []
    size = 0
    for path, name in files:
        packed = path.stat().st_size // (1 if path.name == WEIGHTS else TEXT_SHRINKS)
        if not parts or size + packed > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append((path, name))
        size += packed
    for number, part in enumerate(parts):
        with tarfile.open(target / f"runs{number}.tar.gz", "w:gz") as archive:
            for path, name in part:
                archive.add(path, name)


def unpack(archives: list[Path], runs: Path = ROOT / "runs") -> None:
    """Put results where the stages and ``assay tune`` would have put them.

    Raises:
        ValueError: an archive holds a file that would lie elsewhere.
    """
    for path in archives:
        with tarfile.open(path) as archive:
            members = [member for member in archive.getmembers() if member.isfile()]
            for member in members:
                place, brought = runs / member.name, archive.extractfile(member).read()
                if not place.resolve().is_relative_to(runs.resolve()):
                    raise ValueError(f"{path} holds {member.name}, which lies outside of {runs}.")
                if place.name == "params.yaml":
                    _adopt_settings(place, brought)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(brought)
        print(f"{path}: {len(members)} files")


def _adopt_settings(path: Path, brought: bytes) -> None:
    """Take over the seeds that were evaluated; all settings where there are none yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(brought)
        return
    there = path.with_suffix(".brought")
    there.write_bytes(brought)
    values = load_settings(path).model_dump(mode="json")
    values["experiment"]["seeds"] = list(load_settings(there).experiment.seeds)
    there.unlink()
    write_params(settings_from_dict(values), path)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("pack", "tune", "train", "collect", "unpack"))
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--to", type=Path, default=Path("carry"))
    parser.add_argument("--models", default="")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--seed-by-seed", action="store_true", help="every run's first seed first")
    parser.add_argument("--evaluate", action="store_true", help="each run once it is trained")
    parser.add_argument("--weights", default="", help="runs whose weights are collected too")
    options = parser.parse_args()
    models = [model for model in options.models.split(",") if model]
    folders = [Path(run) for run in options.runs]
    if options.step == "pack":
        pack(options.runs, options.to)
    elif options.step == "tune":
        devices = [f"cuda:{number}" for number in range(options.gpus)] or ["cpu"]
        for folder in folders:
            tune(folder, models, options.trials, options.workers, devices, options.budget)
    elif options.step == "train":
        seeds = [int(seed) for seed in options.seeds.split(",") if seed]
        deadline = time.monotonic() + options.budget
        jobs = [job for folder in folders for job in make_jobs(folder, models, seeds)]
        if options.seed_by_seed:
            jobs.sort(key=lambda job: job.trainings[0][1])
        plan = Plan(options.workers, options.gpus, deadline, options.evaluate)
        work_off(jobs, plan, partial(print, flush=True))
    elif options.step == "collect":
        collect(folders, options.to, options.weights.split(","))
    else:
        unpack(folders)


if __name__ == "__main__":
    main()
