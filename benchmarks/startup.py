"""How long starting takes: `python -m benchmarks.startup`.

Median wall and processor seconds of `assay --help`, of importing `xlstm_model` and of an empty
Python, each started anew in turn. Prints one JSON object; `--json FILE` writes it too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import kept

COMMANDS = {
    "python": [sys.executable, "-c", ""],
    "assay_help": [str(Path(sys.executable).with_name("assay")), "--help"],
    "import_assay": [sys.executable, "-c", "import flows.cli"],
    "import_torch": [sys.executable, "-c", "import torch"],
    "import_xlstm_model": [sys.executable, "-c", "import xlstm_model"],
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each command, the first round unread."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, command in COMMANDS.items():
            began, used = time.perf_counter(), _children()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:
                found[name].append((time.perf_counter() - began, _children() - used))
    return {
        name: {
            "seconds": round(statistics.median(wall for wall, _ in rows), 3),
            "cpu_seconds": round(statistics.median(cpu for _, cpu in rows), 3),
        }
        for name, rows in found.items()
    }


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    found = measure(options.rounds)
    print(json.dumps(found, indent=2))
    kept.write(found, options.json)


if __name__ == "__main__":
    main()
