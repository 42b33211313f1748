"""Where the time of a piece of work goes, as shares: for the rows of the speed page."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

NUM_PASSES = 3
NUM_STEPS = 300
NUM_NAMED = 6
KERNEL_CALLS = "native/library.py"


def operator_shares(work: Callable[[], Any]) -> dict[str, float]:
    """Shares of the processor time of the operators of forward and backward, largest first.

    Time in a compiled kernel counts for the operator that calls it. What few operators take is
    summed up as ``other``.

    >>> x = torch.ones(200, 200)
    >>> next(iter(operator_shares(lambda: x @ x)))
    'mm'
    """
    work()
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for _ in range(NUM_PASSES):
            work()
    return _largest(
        {row.key.removeprefix("aten::"): row.self_cpu_time_total for row in measured.key_averages()}
    )


def step_shares(work: Callable[[], Any]) -> dict[str, float]:
    """Shares of a short piece of work: PyTorch's operators, compiled kernels, Python around them.

    The profiler makes calls of Python functions look dearer than they are, so that ``python`` is
    an upper bound.

    >>> x = torch.ones(400, 400)
    >>> shares = step_shares(lambda: torch.mm(x, x))
    >>> shares["operators"] > shares["python"]
    True
    """
    with torch.no_grad():
        work()
        measured = cProfile.Profile()
        measured.enable()
        for _ in range(NUM_STEPS):
            work()
        measured.disable()
    seconds = {"operators": 0.0, "kernels": 0.0, "python": 0.0}
    calls = 0
    for (file, _, name), row in pstats.Stats(measured).stats.items():
        is_kernel = file.endswith(KERNEL_CALLS) and name == "run"
        is_operator = file == "~" and ("torch" in name or "Tensor" in name)
        seconds["kernels" if is_kernel else "operators" if is_operator else "python"] += row[2]
        calls += row[0] if is_operator else 0
    whole = sum(seconds.values())
    shares = {name: round(part / whole, 3) for name, part in seconds.items()}
    return shares | {"operators_per_step": round(calls / NUM_STEPS)}


def _largest(parts: dict[str, float]) -> dict[str, float]:
    whole = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    shares = {name: round(part / whole, 3) for name, part in ordered[:NUM_NAMED]}
    return shares | {"other": round(1 - sum(shares.values()), 3)}
