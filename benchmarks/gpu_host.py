"""What eager calls of the cells wait for on the host: `python -m benchmarks.gpu_host`.

Microseconds per call where calls follow each other, medians of rounds, ours and PyTorch's
attention:

- `both`: forward and backward, as `benchmarks.gpu` times them;
- `one thread`: the same without autograd's own thread for the GPU, which has to be woken and waited
  for (`torch.autograd.set_multithreading_enabled(False)`);
- `forward`: with a gradient to follow, which is not taken;
- `without launches`: all that ours do but launch their own kernels, and the same on one thread;
- `replay`: one replay of a CUDA graph of `both`, what the GPU itself takes.

Needs PyTorch's build for CUDA alone. `--json FILE` keeps the numbers for the speed page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import gpu_subjects as subjects
from benchmarks import kept
from benchmarks.gpu import capture, time_calls
from xlstm_model.kernels import launching


def time_host(work: Callable[[], object], calls: int, rounds: int = 7) -> float:
    """Microseconds per call where calls follow each other."""
    for _ in range(calls // 5):
        work()
    found = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / calls * 1e6)
    return round(median(found), 1)


@contextmanager
def no_launches() -> Iterator[None]:
    """Kernels that were made ready are not launched; results are what the memory holds."""
    launch = launching.Prepared.__call__
    launching.Prepared.__call__ = lambda self, *tensors: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        launching.Prepared.__call__ = launch  # type: ignore[method-assign]


def measure(subject: subjects.Subject, calls: int, is_ours: bool) -> dict[str, float]:
    """Everything the module's text lists, of one subject."""
    row = {"both": time_host(subject.both, calls)}
    with torch.autograd.set_multithreading_enabled(False):
        row["one thread"] = time_host(subject.both, calls)
    row["forward"] = time_host(lambda: subject.run(*subject.leaves), calls)
    if is_ours:
        with no_launches():
            row["without launches"] = time_host(subject.both, calls)
            with torch.autograd.set_multithreading_enabled(False):
                row["one thread without launches"] = time_host(subject.both, calls)
    row["replay"] = round(1e3 * time_calls(capture(subject.both), 30), 1)
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_host", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--calls", type=int, default=200, help="calls per round (default 200)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    makers = [("mlstm", shape, subjects.mlstm_subjects) for shape in subjects.MLSTM_SHAPES[:3]]
    makers += [("slstm", shape, subjects.slstm_subjects) for shape in subjects.SLSTM_SHAPES]
    for cell, shape, make in makers:
        for name, subject in make(shape).items():
            if name not in ("ours", "sdpa"):
                continue
            row = measure(subject, arguments.calls, name == "ours")
            cells = "   ".join(f"{key} {value:.0f}" for key, value in row.items())
            print(f"{cell} {shape} {name:<5} {cells}", flush=True)
            results.setdefault(f"{cell} {shape}", {})[name] = row
        torch.cuda.empty_cache()
    kept.write(results, arguments.json)


if __name__ == "__main__":
    main()
