"""Where the time inside the compiled kernels goes: `python -m benchmarks.kernel_shares`.

Samples training passes of a stack of blocks with Linux's `perf`, which must be installed, and sums
the samples that fall into the compiled kernels by what the functions do. Beside them it prints the
multiply-adds of a block as a multiple of those of an LSTM layer.
`--json FILE` keeps the shares for the speed page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import kept
from benchmarks.cells import SHAPES

PARTS = {
    "matrix products": ("product", "packed_product", "lower_", "dots", "linear"),
    "convolution, q, k, v, gates": (
        *("mix_", "real_positions", "fold_gates", "unfold_gates"),
        *("SlstmFront::convolve", "SlstmBlockBackward::through_convolution"),
    ),
    "norms": ("moments", "normalize"),
    "skip and output gate": ("merge_",),
    "sLSTM cell": ("advance", "retreat"),
    "feed-forward layer": ("feed_forward",),
    "copies and transposes": ("transpose", "gather", "scatter", "pack", "store_", "load_"),
    "the rest, with what is inlined": (),
}
"""Beginnings of the functions' names; the last part is everything else."""
SECONDS = 3.0


def part_of(function: str) -> str:
    """The part a function belongs to.

    >>> part_of("avx512::product_block<8, 2, true>"), part_of("avx512::chunk_backward")
    ('matrix products', 'the rest, with what is inlined')
    """
    name = function.split("::", 1)[-1]
    return next((part for part, starts in PARTS.items() if name.startswith(starts)), [*PARTS][-1])


def sample(name: str, number: int) -> dict[str, float]:
    """Shares of the samples inside the kernels, by part."""
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "perf.data")
        work = [sys.executable, "-m", "benchmarks.kernel_shares", "--run", name, str(number)]
        subprocess.run(["perf", "record", "-q", "-o", data, "--", *work], check=True)
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    sums = dict.fromkeys(PARTS, 0.0)
    for line in report.splitlines():
        if "%" in line and "_kernels" in line:
            share, rest = line.split("%", 1)
            sums[part_of(rest.split("]", 1)[-1].strip())] += float(share)
    whole = sum(sums.values())
    return {part: round(share / whole, 3) for part, share in sums.items()}


def products_of_mlstm(length: int, dim: int, chunk: int = 64, heads: int = 2) -> float:
    """Multiply-adds of an mLSTM block, forward and backward, over those of an LSTM layer.

    >>> products_of_mlstm(50, 64)
    1.15
    """
    inner = 2 * dim
    width, chunks = inner // heads, -(-length // chunk)
    near = -(-length // chunks) / 2
    later = (chunks - 1) / chunks
    projections = 3 * (2 * dim * inner + inner * dim + 6 * inner * 4)
    within = 7 * heads * near * width
    between = heads * width * width * (1 + 5 * later)
    return round((projections + within + between) / (3 * 8 * dim * dim), 2)


def products_of_slstm(dim: int, heads: int = 2) -> float:
    """The same for an sLSTM block with its feed-forward layer.

    >>> products_of_slstm(64)
    1.42
    """
    inner = -(-int(1.3 * dim) // 64) * 64
    gates = 3 * 2 * 4 * dim * dim // heads
    feed_forward = (3 * 3 + 2) * dim * inner
    return round((gates + feed_forward) / (3 * 8 * dim * dim), 2)


def repeat(name: str, number: int) -> None:
    """Run passes for a while; what is sampled."""
    import torch

    from benchmarks.subjects import training_passes

    torch.set_num_threads(1)
    work = training_passes(SHAPES[number], False)[name]
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        work()


def main() -> None:
    """Sample the stacks at every shape."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_shares", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        repeat(options.run[0], int(options.run[1]))
        return
    results: dict[str, Any] = {}
    for name in ("mlstm_stack", "slstm_stack"):
        results[name] = {}
        for number, (batch_size, length, dim) in enumerate(SHAPES):
            is_matrix = name == "mlstm_stack"
            row = {
                "products": products_of_mlstm(length, dim) if is_matrix else products_of_slstm(dim),
                "shares": sample(name, number),
            }
            results[name][str((batch_size, length, dim))] = row
            print(name, (batch_size, length, dim), row)
    kept.write(results, options.json)


if __name__ == "__main__":
    main()
