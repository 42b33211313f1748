"""Time and peak memory of reading and preparing a log: `python -m benchmarks.prepare --events N`.

Writes a synthetic log as CSV, then reads and prepares it in a process of its own, so that the peak
memory is that of the work alone. Prints one JSON object; `--json FILE` adds it to that file too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import kept

EVENTS_PER_USER = 150
EVENTS_PER_ITEM = 750
SECONDS_PER_YEAR = 31_536_000


def write_log(path: Path, num_events: int, seed: int) -> None:
    """Write a log with Zipf popularity, uniform users, times over a year and a few ties."""
    generator = np.random.default_rng(seed)
    num_users = max(num_events // EVENTS_PER_USER, 10)
    num_items = max(num_events // EVENTS_PER_ITEM, 20)
    weights = 1 / np.arange(1, num_items + 1)
    frame = pl.DataFrame(
        {
            "user_id": generator.integers(num_users, size=num_events),
            "item_id": generator.choice(num_items, num_events, p=weights / weights.sum()),
            "timestamp": 1_500_000_000 + generator.integers(SECONDS_PER_YEAR, size=num_events),
        }
    )
    frame.write_csv(path)


def measure(log: Path, split: str) -> dict[str, float]:
    """Read and prepare a log in this process."""
    from tasks.data.build import build_prepared
    from tasks.data.readers import read_interactions
    from tasks.data.recipe import Recipe
    from tasks.data.schema import split_valid

    scope = "full" if split == "leave_one_out" else "train"
    recipe = Recipe(split=split, corpus=scope, vocabulary=scope, min_item_events=5)
    started, cpu = time.perf_counter(), time.process_time()
    frame, _ = read_interactions(log)
    read = time.perf_counter()
    frame, quarantine = split_valid(frame)
    manifest = build_prepared(log.parent / "prepared", frame, recipe, quarantine=quarantine)
    return {
        "read_seconds": round(read - started, 2),
        "prepare_seconds": round(time.perf_counter() - read, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "train_events": manifest["counts"]["train_events"],
        "users": manifest["counts"]["users"],
        "items": manifest["counts"]["items"],
    }


def main() -> None:
    """Measure one size, or (with --log) one existing CSV in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--split", choices=("leave_one_out", "temporal"), default="leave_one_out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="measure this CSV instead of writing one")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    if options.log:
        print(json.dumps(measure(options.log, options.split)))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        write_log(log, options.events, options.seed)
        command = [sys.executable, "-m", "benchmarks.prepare", "--split", options.split]
        result = subprocess.run([*command, "--log", str(log)], check=True, stdout=subprocess.PIPE)
        size = {"events": options.events, "split": options.split}
        found = size | json.loads(result.stdout)
        print(json.dumps(found))
        kept.write({f"{options.events} {options.split}": found}, options.json, add=True)


if __name__ == "__main__":
    main()
