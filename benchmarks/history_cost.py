"""Measures what long histories cost on a GPU: GRU, SASRec and xLSTM at S = 200, 1,000 and 5,000.

    python -m benchmarks.history_cost --json benchmarks/results/speed/history_cost.json

The tuned settings of `params/movielens-1m-half.yaml` (width 128), random full windows, 40,000
events a step at every length, bf16, steps replayed as a CUDA graph as in every training. Per model
and length:

- `milliseconds`: one training step, the median of several replays;
- `mebibytes`: memory PyTorch held at most while it trained;
- `scoring`: milliseconds to score all items after one history of that length, float32, eager.

Alone on its GPU: beside other processes the times say nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import kept
from benchmarks.gpu import time_calls, time_eager
from tasks.settings import load_settings
from tasks.training.batches import WindowBatches
from tasks.training.graph_step import WARM_UP_STEPS, GraphStep
from tasks.training.models import model_spec
from tasks.training.objective import FullCrossEntropy
from tasks.training.plan import TrainingPlan
from tasks.training.step import make_optimizer

PRESET = kept.ROOT / "params" / "movielens-1m-half.yaml"
MODELS = ("gru", "sasrec", "xlstm")
LENGTHS = (200, 1000, 5000)
EVENTS, ITEMS = 40_000, 3266
REPLAYS, SCORINGS = 10, 1


def measure(model: str, length: int, device: str = "cuda") -> dict[str, Any]:
    """Cost of one model at one length."""
    section = getattr(load_settings(PRESET).train, model).model_dump()
    network = model_spec(model).build(ITEMS, section, max_seq_len=length).model.to(device)
    rows = EVENTS // length
    batches = make_batches(rows, length, device)
    plan = TrainingPlan(max_epochs=1, precision="bf16")
    optimizer, step = make_optimizer(network, plan), GraphStep(rows, length)
    torch.cuda.reset_peak_memory_stats()
    network.train()
    for _ in range(WARM_UP_STEPS + 1):
        step(network, FullCrossEntropy(), batches.batch(0, 0), optimizer, plan)
    milliseconds = time_calls(step.replay_alone, REPLAYS)
    peak = torch.cuda.max_memory_allocated() / 2**20
    network.eval()
    history = batches.batch(0, 0).item_ids[:1]
    lengths = torch.tensor([length], device=device)
    with torch.inference_mode():
        network.last_scores(history, lengths, None)
        scoring = time_eager(lambda: network.last_scores(history, lengths, None), SCORINGS)
    return {
        "rows": rows,
        "milliseconds": round(milliseconds, 2),
        "mebibytes": round(peak),
        "scoring": round(scoring, 2),
    }


def make_batches(rows: int, length: int, device: str) -> WindowBatches:
    """One batch of random full windows."""
    items = np.random.default_rng(0).integers(1, ITEMS + 1, rows * (length + 1))
    return WindowBatches(
        items,
        np.arange(rows + 1) * (length + 1),
        max_seq_len=length,
        batch_size=rows,
        seed=0,
        device=device,
    )


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--json", type=Path, help="file to write the numbers to, beside others")
    options = parser.parse_args()
    device = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for model in options.models:
        for length in LENGTHS:
            row = measure(model, length)
            print(f"{model:<7}{length:>6} " + "   ".join(f"{k} {v}" for k, v in row.items()))
            kept.write(device | {f"{model} {length}": row}, options.json, add=True)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
