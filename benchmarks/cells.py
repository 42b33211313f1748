"""Speed of cells, stacks and steps beside peers on the CPU: `python -m benchmarks.cells`.

Every subject of a shape runs once per round, one after another in one process, so that whatever
else the machine does falls on all of them alike. Reported are medians over rounds, in processor
time, the medians of each round's ratio to `torch.nn.LSTM` with as many layers as the stacks have
blocks, and of the page faults of a round.

- `training`: forward and backward at (B, S, D);
- `steps`: one position at (B, D) without gradients;
- `chunks` (with `--only chunks`): training of mLSTM stacks with chunks of several sizes;
- `growth`: milliseconds of one sequence as its length doubles, and the slope of its logarithm
  between the ends (1 is linear);
- `memory` (with `--memory`): peak memory of one subject's training passes beyond what it starts
  with, each in a process of its own, and how it grows with the length;
- `profile` (with `--profile`): where the time of a stack and of a step goes.

`--peers FOLDER` adds the authors' package from a folder it was installed into by
`pip install --no-deps --target FOLDER xlstm==2.0.6`. One thread unless `--threads` says otherwise.
Prints tables; `--json FILE` adds the numbers to that file too, in place of older ones.

How long `nn.LSTM` takes depends on memory: glibc gives blocks of over 32 MiB back to the system
when they are freed, and the workspace of a longer pass is one. `--allocator keeping` begins anew
with an environment in which glibc keeps all memory, and keeps its numbers under names of their own.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import kept

SHAPES = [(64, 50, 64), (64, 200, 64), (8, 1024, 128)]
STEP_SHAPES = [(1, 64), (8, 128)]
ONLY = ["training", "steps", "growth", "memory", "profile", "chunks"]
CHUNK_SIZES = [25, 32, 40, 50, 64, 100, 128]
GROWTH_LENGTHS = [512, 1024, 2048, 4096]
MEMORY_LENGTHS = [1024, 2048, 4096, 8192]
MEMORY_SUBJECTS = ("lstm", "mlstm_stack", "slstm_stack")
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(10**9), "MALLOC_MMAP_THRESHOLD_": str(10**9)}
"""An environment in which glibc keeps what is freed."""
KEPT_SUFFIX = ", memory kept"
GROWTH_SUBJECTS = ("lstm", "mlstm_cell", "slstm_cell", "mlstm_stack", "slstm_stack")


def measure(subjects: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of each subject: milliseconds, ratio to the first, page faults."""
    for work in subjects.values():
        work()
        work()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    faults: dict[str, list[int]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, work in subjects.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            started = time.process_time()
            work()
            times[name].append(time.process_time() - started)
            faults[name].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    base = next(iter(times.values()))
    return {
        name: {
            "milliseconds": round(statistics.median(own) * 1e3, 3),
            "ratio": round(statistics.median(a / b for a, b in zip(own, base, strict=True)), 2),
            "faults": round(statistics.median(faults[name])),
        }
        for name, own in times.items()
    }


def measure_steps(batch_size: int, dim: int, authors: bool, rounds: int) -> dict[str, Any]:
    """`measure` of a hundred steps, per step."""
    from benchmarks.subjects import decode_steps

    def repeat(step: Callable[[], Any]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(100):
                step()

        return work

    with torch.no_grad():
        steps = {k: repeat(v) for k, v in decode_steps(batch_size, dim, authors).items()}
        results = measure(steps, rounds)
    for result in results.values():
        result["milliseconds"] = round(result["milliseconds"] / 100, 4)
        result["faults"] = round(result["faults"] / 100, 1)
    return results


def measure_growth(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by length at B = 2, D = 64, and the slope between the ends."""
    from benchmarks.subjects import training_passes

    table: dict[str, dict[str, float]] = {name: {} for name in GROWTH_SUBJECTS}
    for length in GROWTH_LENGTHS:
        passes = training_passes((2, length, 64), False)
        for name, row in measure({n: passes[n] for n in GROWTH_SUBJECTS}, rounds).items():
            table[name][str(length)] = row["milliseconds"]
    first, last = str(GROWTH_LENGTHS[0]), str(GROWTH_LENGTHS[-1])
    for row in table.values():
        doublings = math.log2(GROWTH_LENGTHS[-1] / GROWTH_LENGTHS[0])
        row["slope"] = round(math.log2(row[last] / row[first]) / doublings, 2)
    return table


def measure_memory(shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of each subject alone, in MiB and as a ratio to `lstm`."""
    names = [*MEMORY_SUBJECTS, *(("authors_mlstm", "authors_slstm") if arguments.peers else ())]
    peaks = {name: _peak(name, shape, arguments.peers) for name in names}
    base = peaks["lstm"]
    return {k: {"mebibytes": v, "ratio": round(v / base, 2)} for k, v in peaks.items()}


def measure_memory_growth() -> dict[str, dict[str, float]]:
    """Mebibytes by length of each subject alone, and the slope between the ends."""
    table: dict[str, dict[str, float]] = {}
    batch_size, _, dim = SHAPES[-1]
    for name in MEMORY_SUBJECTS:
        row = {str(n): _peak(name, (batch_size, n, dim), None) for n in MEMORY_LENGTHS}
        first, last = (row[str(MEMORY_LENGTHS[end])] for end in (0, -1))
        doublings = math.log2(MEMORY_LENGTHS[-1] / MEMORY_LENGTHS[0])
        table[name] = row | {"slope": round(math.log2(last / first) / doublings, 2)}
    return table


def _peak(name: str, shape: tuple[int, int, int], peers: Path | None) -> float:
    """Mebibytes of one subject's passes, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cells", "--peak", name, *map(str, shape)]
    if peers:
        command += ["--peers", str(peers)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def print_peak(name: str, shape: tuple[int, int, int], authors: bool) -> None:
    """Print how much the peak memory grew while one subject ran."""
    from benchmarks.subjects import training_passes

    training_passes((1, 2, shape[2]), authors)[name]()
    work = training_passes(shape, authors)[name]
    # What importing took at its peak, and what is free but kept, would hide what the work takes.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    for _ in range(3):
        work()
    print((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    """Kibibytes of one field of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """One line per subject."""
    print(f"\n{title}")
    for name, row in rows.items():
        print(f"  {name:<16}" + "".join(f"{key} {value:>9}   " for key, value in row.items()))


def parse() -> argparse.Namespace:
    """Command-line arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--peers", type=Path, help="folder the authors' package is installed in")
    parser.add_argument("--rounds", type=int, default=9, help="rounds per table (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--only", choices=ONLY)
    parser.add_argument("--shape", type=int, choices=range(len(SHAPES)), help="one of the shapes")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--profile", action="store_true", help="measure shares of time too")
    parser.add_argument("--allocator", choices=["system", "keeping"], default="system")
    parser.add_argument("--json", type=Path, help="file to add the numbers to")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = parse()
    is_kept = arguments.allocator == "keeping"
    if is_kept and not KEEPING.items() <= os.environ.items():
        again = [sys.executable, "-m", "benchmarks.cells", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | KEEPING)
    torch.set_num_threads(arguments.threads)
    authors = bool(arguments.peers)
    if authors:
        sys.path.insert(0, str(arguments.peers))
    if arguments.peak:
        name, *sizes = arguments.peak
        print_peak(name, tuple(map(int, sizes)), authors)
        return
    results = {"torch": torch.__version__, "threads": arguments.threads}
    for title, key, rows in tables(arguments):
        print_table(title, rows)
        results[key + KEPT_SUFFIX if is_kept else key] = rows
    kept.write(results, arguments.json, add=True)


def tables(arguments: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Title, key and rows of each table that was asked for, as it is measured."""
    from benchmarks import subjects
    from benchmarks.profiles import operator_shares, step_shares

    wanted = [arguments.only] if arguments.only else ["training", "steps", "growth"]
    if not arguments.only:
        wanted += [name for name in ("memory", "profile") if getattr(arguments, name)]
    authors, rounds = bool(arguments.peers), arguments.rounds
    shapes = SHAPES if arguments.shape is None else [SHAPES[arguments.shape]]
    for shape in shapes if "training" in wanted else []:
        title = f"forward and backward at (B, S, D) = {shape}"
        rows = measure(subjects.training_passes(shape, authors), rounds)
        yield title, f"training {shape}", rows
    for shape in shapes if "chunks" in wanted else []:
        title = f"forward and backward by size of the mLSTM's chunks at (B, S, D) = {shape}"
        rows = measure(subjects.chunked_passes(shape, CHUNK_SIZES), rounds)
        yield title, f"chunks {shape}", rows
    for shape in STEP_SHAPES if "steps" in wanted else []:
        title = f"one step at (B, D) = {shape}"
        yield title, f"steps {shape}", measure_steps(*shape, authors, rounds)
    if "growth" in wanted:
        title = "milliseconds by length at B = 2, D = 64"
        yield title, "growth", measure_growth(max(3, rounds // 3))
    if "memory" in wanted:
        title = f"peak memory at (B, S, D) = {SHAPES[-1]}"
        yield title, "memory", measure_memory(SHAPES[-1], arguments)
        title = "peak memory in mebibytes by length at B = 8, D = 128"
        yield title, "memory growth", measure_memory_growth()
    for shape in shapes if "profile" in wanted else []:
        passes = subjects.training_passes(shape, False)
        rows = {name: operator_shares(passes[name]) for name in ("mlstm_stack", "slstm_stack")}
        yield f"shares of time at (B, S, D) = {shape}", f"profile {shape}", rows
    for shape in STEP_SHAPES if "profile" in wanted else []:
        steps = subjects.decode_steps(*shape, False)
        rows = {name: step_shares(work) for name, work in steps.items()}
        yield f"shares of time of a step at (B, D) = {shape}", f"profile steps {shape}", rows


if __name__ == "__main__":
    main()
