"""Searches and trains other packages' models on runs' prepared data, many processes side by side.

Here, in this project's environment, what the packages need of finished runs::

    python -m benchmarks.peers.run pack movielens-100k movietweetings --to carry

There, beside this project's code, torch and Optuna, with an environment for each package::

    pip install --no-deps --target rt rectools==0.19.0 pm-implicit==0.7.3 pandas==2.3.3 pytz \\
        attrs typeguard pytorch-lightning==2.5.2 lightning-utilities torchmetrics tqdm
    pip install --no-deps --target rb recbole==1.2.1 colorlog colorama tabulate texttable thop \\
        tensorboard tensorboard-data-server absl-py grpcio markdown werkzeug
    pip install --no-deps --target xl xlstm==2.0.6
    python -m benchmarks.peers.run work carry/movielens-100k carry/movietweetings --to out \\
        --site rectools=rt,recbole=rb,xlstm=xl --workers rectools=6,recbole=6,xlstm=8 \\
        --gpus 2 --seconds 400

Many processes share a GPU several times better under CUDA's multi-process service
(``nvidia-cuda-mps-control -d`` before, ``echo quit | nvidia-cuda-mps-control`` after).
A name such as ``movielens-100k-temporal:movielens-100k`` packs a log that is not searched: its
models take the settings found on the other one, which was kept before or is packed beside it.
``--site DIR`` names one folder for all. The same command goes on where it was stopped. What it
leaves, one JSON object a line:
``trials-*.jsonl``, ``seeds-*.jsonl`` (with the rank of every test user) and ``errors-*.jsonl``.
``python -m benchmarks.quality_peers keep out`` takes them from there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ON_PROCESSOR = ("xlstm",)
"""Families that train on the processor: the package's sLSTM is a loop of small operations, which a
GPU that many processes share does no sooner."""
ANY = ""
"""Every family."""
SEARCH_SHARE = 0.75
"""Share of the seconds after which no new trial begins."""


def pack(names: list[str], target: Path) -> None:
    """Copy prepared data and the settings that all models of a preset share.

    Args:
        names: Runs, each by itself or as ``run:lender`` (see above).
        target: Where to.

    Raises:
        ValueError: a lender was neither kept before nor is packed.
    """
    from benchmarks.quality_peers import read_peers
    from tasks.settings import load_settings

    for given in names:
        name, _, lender = given.partition(":")
        if lender and lender not in {*read_peers(), *names}:
            raise ValueError(
                f"{lender!r} lends its settings to {name}, but no search on it was kept and it is "
                f"not packed; expected one of {', '.join([*read_peers(), *names])}."
            )
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "runs" / name / "data/prepared", folder / "data" / "prepared")
        train = load_settings(ROOT / "params" / f"{name}.yaml").train
        shared = train.shared.model_dump(mode="json")
        values = {
            "train": shared,
            "width": train.xlstm.embedding_dim,
            "max_seq_len": shared["max_seq_len"],
            "batch_size": shared["batch_size"],
        }
        if lender:
            peers = read_peers().get(lender, {}).get("peers", {})
            values["settings_of"] = lender
            values["settings"] = {
                peer: found["settings"] for peer, found in peers.items() if lender not in names
            }
            values["is_searched_elsewhere"] = lender in names
        (folder / "peers.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_sites(text: str) -> dict[str, str]:
    """Folders of packages by family.

    >>> read_sites("rectools=/a,recbole=/b")
    {'rectools': '/a', 'recbole': '/b'}
    >>> read_sites("/a")
    {'': '/a'}
    """
    found = {}
    for piece in filter(None, text.split(",")):
        family, _, folder = piece.rpartition("=")
        found[family or ANY] = str(Path(folder).resolve())
    return found


def reopen(out: Path) -> None:
    """Give up what a stopped command left running, so that it is begun anew."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    for path in (out / "state").glob("*.journal"):
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.load_study(study_name=path.stem, storage=storage)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    for claim in (out / "state").glob("*.seed*"):
        results = out / f"seeds-{claim.stem}.jsonl"
        seed = int(claim.suffix.removeprefix(".seed"))
        rows = results.read_text().splitlines() if results.is_file() else []
        if seed not in [json.loads(row)["seed"] for row in rows]:
            claim.unlink()


def start(
    family: str, number: int, options: argparse.Namespace, begun: float
) -> subprocess.Popen[bytes]:
    """Start one process of a family on a GPU of its turn, or on the processor."""
    has_gpu = options.gpus > 0 and family not in ON_PROCESSOR
    site = [folder for name, folder in options.site.items() if name in (family, ANY)]
    path = os.pathsep.join([str(ROOT), *site, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": str(number % options.gpus) if has_gpu else "",
    }
    folders = options.folders[:1] if family in ON_PROCESSOR else options.folders
    if number % 5 > 2:  # two of five begin with the last log, so that none goes without
        folders = folders[::-1]
    command = [sys.executable, "-m", "benchmarks.peers.work", family, *map(str, folders)]
    command += ["--to", str(options.to), "--device", "cuda" if has_gpu else "cpu"]
    command += ["--trials", str(options.trials), "--seeds", str(options.seeds)]
    command += ["--until", str(begun + options.seconds), "--turn", str(number // 2)]
    command += ["--search-until", str(begun + options.seconds * SEARCH_SHARE)]
    log = (options.to / "state" / f"{family}{number}.txt").open("w")
    return subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=options.to / "state"
    )


def supervise(options: argparse.Namespace) -> None:
    """Run all processes until they end, and end those that outstay the time."""
    begun = time.time()
    (options.to / "state").mkdir(parents=True, exist_ok=True)
    reopen(options.to)
    wanted = [pair.split("=") for pair in options.workers.split(",")]
    processes = [
        start(family, number, options, begun)
        for family, count in wanted
        for number in range(int(count))
    ]
    for process in processes:
        left = begun + options.seconds + options.grace - time.time()
        try:
            process.wait(max(0.1, left))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for path in sorted(options.to.glob("*.jsonl")):
        print(path.name, len(path.read_text().splitlines()), flush=True)
    print(f"{time.time() - begun:.0f} s", flush=True)


def main() -> None:
    """Pack here or work there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("pack", "work"))
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--site", default="", help="folders of packages, see above")
    parser.add_argument("--workers", default="rectools=1,recbole=1,xlstm=1")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--grace", type=float, default=10.0, help="seconds to rank after the end")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.step == "pack":
        pack(options.folders, options.to)
        return
    options.to = options.to.resolve()
    options.site = read_sites(options.site)
    sys.path[:0] = options.site.values()
    options.folders = [Path(folder).resolve() for folder in options.folders]
    supervise(options)


if __name__ == "__main__":
    main()
