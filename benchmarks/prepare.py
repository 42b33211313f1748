"""Time and peak memory of reading and preparing a log: `python -m benchmarks.prepare --events N`.

Writes a synthetic log as CSV, then reads and prepares it in a process of its own, so that the peak
memory is that of the work alone. Prints one JSON object; `--json FILE` adds it to that file too.
`--within GIB` lets the kernel give that process no more memory (Linux, as root). Without it the
peak counts pages of files that are mapped and may be dropped at any time.
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
from benchmarks.memory_limit import run_limited

EVENTS_PER_USER = 150
EVENTS_PER_ITEM = 750
SECONDS_PER_YEAR = 31_536_000
EVENTS_AT_ONCE = 10_000_000


def write_log(path: Path, num_events: int, seed: int) -> None:
    """Write a log with Zipf popularity, uniform users, times over a year and a few ties."""
    generator = np.random.default_rng(seed)
    num_users = max(num_events // EVENTS_PER_USER, 10)
    num_items = max(num_events // EVENTS_PER_ITEM, 20)
    weights = 1 / np.arange(1, num_items + 1)
    with path.open("wb") as file:
        for start in range(0, num_events, EVENTS_AT_ONCE):
            size = min(EVENTS_AT_ONCE, num_events - start)
            frame = pl.DataFrame(
                {
                    "user_id": generator.integers(num_users, size=size),
                    "item_id": generator.choice(num_items, size, p=weights / weights.sum()),
                    "timestamp": 1_500_000_000 + generator.integers(SECONDS_PER_YEAR, size=size),
                }
            )
            frame.write_csv(file, include_header=start == 0)


def measure(log: Path, split: str) -> dict[str, float | bool]:
    """Read and prepare a log in this process, as the stage does; large ones piece by piece."""
    from tasks.data.build import build_prepared
    from tasks.data.pieces import kind_of_pieces
    from tasks.data.prepare_stage import read_log
    from tasks.data.recipe import Recipe

    scope = "full" if split == "leave_one_out" else "train"
    recipe = Recipe(split=split, corpus=scope, vocabulary=scope, min_item_events=5)
    started, cpu = time.perf_counter(), time.process_time()
    with read_log(log, {}, log.parent / "streamed") as found:
        read = time.perf_counter()
        manifest = build_prepared(
            log.parent / "prepared", found.coded, recipe, quarantine=found.quarantine
        )
    return {
        "log_gib": round(log.stat().st_size / 2**30, 2),
        "in_pieces": kind_of_pieces(log) is not None,
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
    parser.add_argument("--within", type=float, metavar="GIB", help="memory the work may have")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    if options.log:
        print(json.dumps(measure(options.log, options.split)))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        write_log(log, options.events, options.seed)
        command = [sys.executable, "-m", "benchmarks.prepare", "--split", options.split]
        command += ["--log", str(log)]
        size = {"events": options.events, "split": options.split}
        if options.within:
            output, charged = run_limited(command, options.within)
            size |= {"within_gib": options.within, "charged_gib": round(charged, 2)}
        else:
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        found = size | json.loads(output)
        print(json.dumps(found))
        kept.write({f"{options.events} {options.split}": found}, options.json, add=True)


if __name__ == "__main__":
    main()
