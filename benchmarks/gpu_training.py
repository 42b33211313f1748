"""Times whole training steps on a GPU: the xLSTM beside a SASRec of the same width and depth.

    python -m benchmarks.gpu_training --json benchmarks/results/gpu_training.json

Shape of MovieLens-1M: 128 windows of 200 events, width 128, two blocks, cross-entropy over all
3,416 items, dropout 0.2, bf16 autocast, clipping and AdamW; SASRec attends with PyTorch's fused
kernels. Per model: the step of the training loop, and the same work replayed as one CUDA graph,
whose ratio is the share of time the GPU is busy in the loop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu import capture, time_calls, time_eager
from tasks.baselines.sasrec import SASRecCore
from tasks.training.batches import Batch
from tasks.training.objective import FullCrossEntropy
from tasks.training.optimizer import clip_gradients
from tasks.training.plan import TrainingPlan
from tasks.training.step import make_optimizer, train_step
from xlstm_model import SequenceRecommender, XLSTMStack
from xlstm_model.kernels import library

BATCH, LENGTH, WIDTH, ITEMS, HEADS = 128, 200, 128, 3416, 4
PLAN = TrainingPlan(max_epochs=1, precision="bf16")


def make_models() -> dict[str, nn.Module]:
    """Both models on the GPU, and the mLSTM and sLSTM alone."""
    cores = {
        "sasrec": SASRecCore(WIDTH, num_layers=2, num_heads=HEADS, max_seq_len=LENGTH, dropout=0.2),
    }
    for pattern in ("sm", "mm", "ss"):
        cores[f"xlstm {pattern}"] = XLSTMStack(WIDTH, pattern, num_heads=HEADS, dropout=0.2)
    return {
        name: SequenceRecommender(ITEMS, core, WIDTH, dropout=0.2).cuda()
        for name, core in cores.items()
    }


def make_batch() -> Batch:
    """Random full windows."""
    ids = torch.randint(1, ITEMS + 1, (BATCH, LENGTH + 1), device="cuda")
    return Batch(
        item_ids=ids[:, :-1].contiguous(),
        targets=ids[:, 1:].contiguous(),
        mask=torch.ones(BATCH, LENGTH, dtype=torch.bool, device="cuda"),
        positions=torch.arange(BATCH * LENGTH, device="cuda"),
        users=torch.arange(BATCH, device="cuda"),
        times=None,
        seed=0,
    )


def graph_step(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """The step's work without what cannot be captured: seeding and freeing gradients."""
    optimizer = make_optimizer(model, PLAN)
    for group in optimizer.param_groups:
        group["capturable"] = True

    def work() -> None:
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cuda", torch.bfloat16):
            hidden, _ = model.encode(batch.item_ids, mask=batch.mask)
            loss = FullCrossEntropy()(model, hidden, batch)
        loss.backward()
        clip_gradients(model.parameters(), PLAN.max_grad_norm)
        optimizer.step()

    return capture(work)


def profile(work: Callable[[], object], top: int) -> list[str]:
    """The kernels that take most of the GPU's time in one call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)[:top]
    return [f"{r.self_device_time_total:8.0f} us {r.count:4d} x {r.key[:90]}" for r in rows]


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
    batch = make_batch()
    for name, model in make_models().items():
        optimizer = make_optimizer(model, PLAN)

        def step(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            train_step(model, FullCrossEntropy(), batch, optimizer, PLAN)

        for _ in range(3):
            step()
        torch.cuda.reset_peak_memory_stats()
        row: dict[str, Any] = {"eager": time_eager(step, 10)}
        row["mebibytes"] = torch.cuda.max_memory_allocated() / 2**20
        row["graph"] = time_calls(graph_step(model, batch), 20)
        row["busy"] = row["graph"] / row["eager"]
        if arguments.without_kernels and name.startswith("xlstm"):
            with library.disabled():
                step()
                row["without kernels"] = time_eager(step, 1)
        results[name] = row
        print(f"{name:<12}" + "   ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
        if arguments.profile:
            print("\n".join(profile(step, arguments.profile)), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
