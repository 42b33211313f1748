"""The default MovieLens-100K experiment beside RecBole: `python -m benchmarks.beside_recbole`.

    python -m benchmarks.beside_recbole --python RECBOLE_ENV/bin/python --json FILE

Ours is everything: `assay run` on the default settings in an empty folder, seven models, validation
every epoch, checks, evaluation, diagnosis and report. RecBole's GRU4Rec and SASRec, trained and
validated alone, are given several times the processor seconds of all that, half each, and stop when
they are spent. Both validate on the same events by full ranking. `--only` measures a part and adds
it to the file. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import kept

PARTS = ("ours", "GRU4Rec", "SASRec")
TIMES_AS_LONG = 5.0
"""RecBole's processor seconds as a multiple of ours."""


def measure_ours() -> dict[str, Any]:
    """The default experiment in a folder of its own, without DVC's cache of earlier results."""
    with tempfile.TemporaryDirectory() as place:
        workspace = Path(place)
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(kept.ROOT / name, workspace / name)
        dvc = [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"]
        subprocess.run(dvc, cwd=workspace, check=True)
        environment = {**os.environ, "PYTHONPATH": str(kept.ROOT), "OMP_NUM_THREADS": "1"}
        started, before = time.perf_counter(), _children()
        code = (
            "from pathlib import Path; from flows.start import run_experiment; "
            "run_experiment(Path('.'), use_dvc=False)"
        )
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=workspace, env=environment, check=True, capture_output=True)
        found = {
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(_children() - before, 1),
        }
        records = sorted(workspace.glob("artifacts/models/*/seed_0/record.json"))
        models = {}
        for path in records:
            record = json.loads(path.read_text())
            models[record["model"]] = {
                "cpu_seconds": round(record["cpu_seconds"], 1),
                "val_ndcg_at_10": round(record["val/ndcg_at_10"], 4),
            }
        return found | {"models": models}


def measure_recbole(python: Path, model: str, log: Path, seconds: float) -> dict[str, Any]:
    """One of RecBole's models in its own environment."""
    script = kept.ROOT / "benchmarks" / "recbole_training.py"
    arguments = ["--model", model, "--log", str(log.resolve()), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place:
        finished = subprocess.run(
            [str(python), "-W", "ignore", str(script), *arguments],
            cwd=place,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(finished.stdout.splitlines()[-1])


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    default_log = Path.home() / ".cache" / "assay" / "movielens-100k" / "u.data"
    parser.add_argument("--python", type=Path, help="the Python that has RecBole")
    parser.add_argument("--log", type=Path, default=default_log, help="u.data of MovieLens-100K")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    has_file = options.json is not None and options.json.is_file()
    found = json.loads(options.json.read_text()) if has_file else {}
    for part in [options.only] if options.only else PARTS:
        if part == "ours":
            found[part] = measure_ours()
        else:
            if "ours" not in found or options.python is None:
                parser.error(f"{part} needs --python, and ours measured before")
            seconds = TIMES_AS_LONG * found["ours"]["cpu_seconds"] / 2
            found[part] = measure_recbole(options.python, part, options.log, seconds)
        kept.write({part: found[part]}, options.json, add=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
