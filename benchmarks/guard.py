"""Guards speed against regressions: `python -m benchmarks.guard`.

Measures key rows of `benchmarks.cells` again: subjects take turns and each is judged by the median
of its ratio to `torch.nn.LSTM`, so that the machine matters little. Ends with
exit code 1 where a ratio is more than `--tolerance` (1.6) times the one kept in
`benchmarks/results/speed/cells.json`. `--slow NAME` makes a subject work twice as hard again, to
see the guard fail.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import kept
from benchmarks.cells import SHAPES, STEP_SHAPES, measure, measure_steps
from benchmarks.subjects import training_passes

TOLERANCE = 1.6
"""Ratios differ by up to 1.4 times between runs, with what else the machine does."""
SUBJECTS = ("mlstm_stack", "slstm_stack")


def regressions(
    measured: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]], tolerance: float
) -> list[str]:
    """Sentences on ratios that grew beyond the tolerance; rows that were never kept are not judged.

    >>> row = lambda ratio: {"steps": {"mlstm_stack": {"ratio": ratio}}}
    >>> regressions(row(1.5), row(1.0), 1.6)
    []
    >>> regressions(row(2.0), row(1.0), 1.6)
    ['steps, mlstm_stack: 2.0 times nn.LSTM, kept 1.0; at most 1.6 allowed.']
    """
    return [
        f"{key}, {name}: {row['ratio']} times nn.LSTM, kept {old[name]['ratio']}; at most "
        f"{round(tolerance * old[name]['ratio'], 2)} allowed."
        for key, rows in measured.items()
        for old in [before.get(key, {})]
        for name, row in rows.items()
        if name in old and row["ratio"] > tolerance * old[name]["ratio"]
    ]


def slowed(work: Callable[[], Any]) -> Callable[[], None]:
    """The work, three times over."""

    def run() -> None:
        for _ in range(3):
            work()

    return run


def measure_key_rows(rounds: int, slow: str | None = None) -> dict[str, dict[str, Any]]:
    """Training at the first shape and both steps, of our stacks beside `nn.LSTM`."""
    passes = training_passes(SHAPES[0], False)
    work = {name: passes[name] for name in ("lstm", *SUBJECTS)}
    if slow:
        work[slow] = slowed(work[slow])
    found = {f"training {SHAPES[0]}": measure(work, rounds)}
    for shape in STEP_SHAPES:
        found[f"steps {shape}"] = measure_steps(*shape, False, rounds)
    return found


def main() -> None:
    """Measure, compare and say what grew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=9, help="rounds per row (default 9)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="default 1.6")
    parser.add_argument("--slow", choices=SUBJECTS, help="plant a slowdown")
    options = parser.parse_args()
    before = kept.read("cells")
    if not before:
        raise SystemExit("nothing is kept; run python -m benchmarks.cells --json first.")
    torch.set_num_threads(1)
    measured = measure_key_rows(options.rounds, options.slow)
    for key, rows in measured.items():
        print(key, {name: rows[name]["ratio"] for name in SUBJECTS})
    found = regressions(measured, before, options.tolerance)
    print("\n".join(found) or "No ratio grew.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
