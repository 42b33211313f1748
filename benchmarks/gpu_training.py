"""Times whole training steps on a GPU: the xLSTM beside a SASRec of the same width and depth.

    python -m benchmarks.gpu_training --json benchmarks/results/speed/gpu_training.json

Shape of MovieLens-1M: 128 windows of 200 events, width 128, two blocks, cross-entropy over all
3,416 items, the bias of repeats, dropout 0.2, bf16 autocast, clipping and AdamW; SASRec attends
with PyTorch's fused kernels. Per model, in milliseconds per step:

- `eager`: one operation launched after the other;
- `loop`: the training loop as it is, `tasks.training.loop.train`, which samples windows on the GPU
  and replays its steps as a CUDA graph;
- `graph`: the replay alone. Over `loop` it is the share of time the GPU is `busy` in the loop with
  the step; sampling keeps it busy besides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import kept
from benchmarks.gpu import time_calls, time_eager
from tasks.baselines.sasrec import SASRecCore
from tasks.training.batches import WindowBatches
from tasks.training.graph_step import GraphStep
from tasks.training.loop import train
from tasks.training.objective import FullCrossEntropy
from tasks.training.plan import TrainingPlan
from tasks.training.step import TrainingParts, make_optimizer, train_step
from xlstm_model import SequenceRecommender, XLSTMStack
from xlstm_model.kernels import library

BATCH, LENGTH, WIDTH, ITEMS, HEADS = 128, 200, 128, 3416, 4
EPOCH_STEPS = 60
PLAN = TrainingPlan(max_epochs=1, precision="bf16")


def make_models() -> dict[str, nn.Module]:
    """Both models on the GPU, and the mLSTM and sLSTM alone."""
    cores = {
        "sasrec": SASRecCore(WIDTH, num_layers=2, num_heads=HEADS, max_seq_len=LENGTH, dropout=0.2),
    }
    for pattern in ("sm", "mm", "ss"):
        cores[f"xlstm {pattern}"] = XLSTMStack(WIDTH, pattern, num_heads=HEADS, dropout=0.2)
    return {
        name: SequenceRecommender(ITEMS, core, WIDTH, dropout=0.2, repeat_window=LENGTH).cuda()
        for name, core in cores.items()
    }


def make_batches(num_batches: int) -> WindowBatches:
    """So many batches of random full windows per epoch, on the GPU."""
    events = LENGTH + 1
    users = BATCH * num_batches
    items = np.random.default_rng(0).integers(1, ITEMS + 1, users * events)
    return WindowBatches(
        items,
        np.arange(users + 1) * events,
        max_seq_len=LENGTH,
        batch_size=BATCH,
        seed=0,
        device="cuda",
    )


def time_loop(model: nn.Module, epochs: int = 4) -> tuple[float, float]:
    """Milliseconds per step of the training loop, and of the replays in it."""
    batches = make_batches(EPOCH_STEPS)
    step = GraphStep(BATCH, LENGTH)
    parts = TrainingParts(
        model=model,
        objective=FullCrossEntropy(),
        batches=batches,
        validate=lambda _: {PLAN.monitor: 0.0},
        step=step,
    )
    record = train(parts, replace(PLAN, max_epochs=epochs, patience=epochs))
    # The first epoch compiles and captures.
    seconds = median(row["seconds"] for row in record.history[1:])
    return 1e3 * seconds / EPOCH_STEPS, time_calls(step.replay_alone, 20)


def profile(work: Callable[[], object], top: int) -> dict[str, float]:
    """Microseconds of the kernels that take most of the GPU's time in one call, and of all."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    largest = {f"{r.count} x {r.key[:90]}": r.self_device_time_total for r in rows[:top]}
    return largest | {"all": sum(r.self_device_time_total for r in rows)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--profile", type=int, default=0, help="kernels to list per model")
    parser.add_argument("--without-kernels", action="store_true", help="PyTorch's operations too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    batch = make_batches(1).batch(0, 0)
    for name, model in make_models().items():
        optimizer = make_optimizer(model, PLAN)

        def step(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            train_step(model, FullCrossEntropy(), batch, optimizer, PLAN)

        for _ in range(3):
            step()
        torch.cuda.reset_peak_memory_stats()
        row: dict[str, Any] = {"eager": time_eager(step, 10)}
        row["mebibytes"] = torch.cuda.max_memory_allocated() / 2**20
        row["loop"], row["graph"] = time_loop(model)
        row["busy"] = row["graph"] / row["loop"]
        row["beside sasrec"] = row["loop"] / results.get("sasrec", row)["loop"]
        if arguments.without_kernels and name.startswith("xlstm"):
            with library.disabled():
                step()
                row["without kernels"] = time_eager(step, 1)
        print(f"{name:<12}" + "   ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
        if arguments.profile:
            row["microseconds"] = profile(step, arguments.profile)
            for kernel, time in row["microseconds"].items():
                print(f"{time:8.0f} us {kernel}", flush=True)
        results[name] = row
        kept.write(results, arguments.json)


if __name__ == "__main__":
    main()
