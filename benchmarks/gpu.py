"""Times the kernels for GPUs beside their peers, in one run on one GPU.

    python -m benchmarks.gpu --json benchmarks/results/gpu.json

Forward and backward in bf16: the median time of one replay of a CUDA graph (launch cost removed),
of one eager call (launches included), and peak extra memory. Needs PyTorch's build for CUDA alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import gpu_subjects as subjects
from benchmarks.gpu_page import AIMS

GROUPS = {
    "mlstm": (subjects.MLSTM_SHAPES, subjects.mlstm_subjects),
    "slstm": (subjects.SLSTM_SHAPES, subjects.slstm_subjects),
    "loss": (subjects.LOSS_SHAPES, subjects.loss_subjects),
}


def time_calls(work: Callable[[], object], calls: int) -> float:
    """Median milliseconds of single calls, by events."""
    pairs = []
    for _ in range(calls):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return median(begin.elapsed_time(end) for begin, end in pairs)


def time_eager(work: Callable[[], object], calls: int) -> float:
    """Milliseconds per call where calls follow each other: the slower of launching and running."""
    rounds = []
    for _ in range(5):
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) / calls)
    return median(rounds)


def capture(work: Callable[[], object]) -> Callable[[], None]:
    """The work as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def measure(work: Callable[[], object], calls: int) -> dict[str, float]:
    """Graph and eager milliseconds and peak extra memory in MiB of one subject."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    row = {"eager": time_eager(work, calls), "mebibytes": peak}
    replay = capture(work)
    for _ in range(3):
        replay()
    return {"graph": time_calls(replay, calls)} | row


def measure_group(kind: str, shape: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """All subjects of one kind and shape, ours under the fastest plan if asked to look for it."""
    make = GROUPS[kind][1]
    torch.manual_seed(0)
    calls = 5 if shape[1] == 8192 else arguments.calls
    rows: dict[str, Any] = {}
    plan = None
    if arguments.tune:
        for name, tried in subjects.candidates(kind, shape).items():
            try:
                rows[name] = measure(make(shape, tried)["ours"].both, calls)
            except Exception as problem:
                rows[name] = {"failed": f"{type(problem).__name__}: {problem}"[:90]}
        best = min(rows, key=lambda name: rows[name].get("graph", float("inf")))
        plan = subjects.candidates(kind, shape)[best]
    for name, subject in make(shape, plan).items():
        if name == "compiled" and (arguments.no_compiled or (kind == "mlstm" and shape[1] > 256)):
            continue
        rows[name] = measure(subject.both, calls)
    torch.cuda.empty_cache()
    return rows


def measure_errors() -> dict[str, list[float]]:
    """Relative errors of values and gradients against float64, at shapes of the tables."""
    torch.manual_seed(1)
    mlstm_shapes = ((32, 64, 64, 2), (8, 256, 128, 4), (2, 1024, 256, 4))
    found = {
        f"mlstm {shape}": subjects.reference_errors(
            subjects.mlstm_subjects(shape)["ours"], subjects.exact_mlstm
        )
        for shape in mlstm_shapes
    }
    slstm = subjects.slstm_subjects((32, 128, 128, 4))["ours"]
    found["slstm (32, 128, 128, 4)"] = subjects.reference_errors(slstm, subjects.exact_slstm)
    loss = subjects.loss_subjects((2048, 3417, 128))
    found["loss (2048, 3417, 128)"] = subjects.reference_errors(loss["ours"], loss["naive"].run)
    return found


def print_rows(title: str, rows: dict[str, Any]) -> None:
    """One line per subject."""
    print(f"{title}   reach {AIMS.get(title, '')}")
    for name, row in rows.items():
        cells = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(f"  {name:<38}" + "   ".join(cells), flush=True)


def compile_share(share: Sequence[int]) -> None:
    """Compile every ``share[1]``-th candidate, so that several processes do it side by side."""
    number = 0
    for kind, (shapes, make) in GROUPS.items():
        for shape in shapes:
            for plan in subjects.candidates(kind, shape).values():
                number += 1
                if number % share[1] == share[0]:
                    try:
                        make(shape, plan)["ours"].both()
                    except Exception as problem:
                        print(kind, shape, plan, str(problem)[-300:], flush=True)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", choices=list(GROUPS), action="append")
    parser.add_argument("--tune", action="store_true", help="time our kernels under many plans")
    parser.add_argument("--no-compiled", action="store_true", help="leave out torch.compile")
    parser.add_argument("--calls", type=int, default=30, help="timed calls (default 30)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--compile", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compile:
        compile_share(arguments.compile)
        return
    device = torch.cuda.get_device_name()
    results: dict[str, Any] = {"device": device, "torch": torch.__version__}
    print(device, torch.__version__)
    results["errors"] = measure_errors()
    for name, errors in results["errors"].items():
        print(f"{name:<28}" + " ".join(f"{x:.1e}" for x in errors), flush=True)
    for kind in arguments.only or GROUPS:
        for shape in GROUPS[kind][0]:
            title = f"{kind} {shape}"
            results[title] = measure_group(kind, shape, arguments)
            print_rows(title, results[title])
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
