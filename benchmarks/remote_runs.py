"""Searches and trains many runs on another machine, one with GPUs, in a few calls.

Here: pack what the other machine needs, prepared data and settings of runs below ``runs/``::

    python -m benchmarks.remote_runs pack movielens-100k movietweetings --to carry

There, beside this project's code, with torch, NumPy, pydantic, ruamel.yaml and Optuna::

    python -m benchmarks.remote_runs tune carry/movielens-100k --trials 24 --workers 40
    python -m benchmarks.remote_runs train carry/* --workers 12 --gpus 4
    python -m benchmarks.remote_runs collect carry/* --to out

Here again: results go to their places, as if the stage ``train`` had run here, and the trials of a
search can be continued, saved as a preset or compared::

    python -m benchmarks.remote_runs unpack out/*.tar.gz
    assay stage evaluate, diagnose, report in the run's folder; assay compare
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tasks.settings import load_settings, settings_from_dict, write_params

ROOT = Path(__file__).resolve().parents[1]
STORAGE = Path(".assay") / "tuning" / "journal.log"
BROUGHT = ("params.yaml", "data/prepared")
RESULTS = ("artifacts/models", ".assay/tuning", "params.yaml")
PART_BYTES = 14_000_000
"""Bytes of results in one archive at most, unless one file alone is larger."""


def pack(names: list[str], target: Path) -> None:
    """Copy settings and prepared data of runs; tracking stays at home."""
    for name in names:
        source, folder = ROOT / "runs" / name, target / name
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        (folder / "data").mkdir(parents=True)
        subprocess.run(
            ["cp", "-rL", str(source / "data/prepared"), str(folder / "data")], check=True
        )
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


def train(
    folders: list[Path], models: list[str], seeds: list[int], workers: int, gpus: int, budget: float
) -> None:
    """Train models and seeds of runs side by side; those finished before are left alone."""
    places: SimpleQueue[int] = SimpleQueue()
    for number in range(workers):
        places.put(number)
    deadline = time.monotonic() + budget

    def work(job: tuple[Path, str, int]) -> None:
        folder, model, seed = job
        if time.monotonic() > deadline:
            print(f"{folder.name} {model} seed {seed}: not started, no time left", flush=True)
            return
        place = places.get()
        start = time.monotonic()
        visible = str(place % gpus) if gpus else ""
        done = subprocess.run(
            [sys.executable, "-m", "tasks", "train", "--model", model, "--seed", str(seed)],
            cwd=folder,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": _python_path()},
            capture_output=True,
            text=True,
        )
        places.put(place)
        said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        seconds = time.monotonic() - start
        print(f"{folder.name} {model} seed {seed}: {seconds:.0f} s, {said[-1:]}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, _jobs(folders, models, seeds)))


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])


def _jobs(folders: list[Path], models: list[str], seeds: list[int]) -> list[tuple[Path, str, int]]:
    jobs = []
    for folder in folders:
        experiment = load_settings(folder / "params.yaml").experiment
        for seed in seeds or experiment.seeds:
            for model in models or experiment.models:
                if not (folder / "artifacts" / "models" / model / f"seed_{seed}").is_dir():
                    jobs.append((folder, model, seed))
    return jobs


def collect(folders: list[Path], target: Path) -> None:
    """Write archives of what the runs left."""
    target.mkdir(parents=True, exist_ok=True)
    files = [
        (path, f"{folder.name}/{path.relative_to(folder)}")
        for folder in folders
        for result in RESULTS
        for path in sorted([folder / result, *(folder / result).rglob("*")])
        if path.is_file()
    ]
    parts: list[list[tuple[Path, str]]] = []
    size = PART_BYTES
    for path, name in files:
        if size + path.stat().st_size > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append((path, name))
        size += path.stat().st_size
    for number, part in enumerate(parts):
        with tarfile.open(target / f"runs{number}.tar.gz", "w:gz") as archive:
            for path, name in part:
                archive.add(path, name)


def unpack(archives: list[Path]) -> None:
    """Put results where the stage ``train`` and ``assay tune`` would have put them."""
    for path in archives:
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if Path(m.name).name != "params.yaml"]
            archive.extractall(ROOT / "runs", members, filter="data")
        print(f"{path}: {len(members)} files")


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
        train(folders, models, seeds, options.workers, options.gpus, options.budget)
    elif options.step == "collect":
        collect(folders, options.to)
    else:
        unpack(folders)


if __name__ == "__main__":
    main()
