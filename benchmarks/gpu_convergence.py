"""Trains the xLSTM on MovieLens-1M to convergence on a GPU, full ranking after every epoch.

    python -m benchmarks.gpu_convergence --data DATA/prepared --json FILE

The default settings of `params.yaml`, but for windows of 200 events, batches of 128 and width 128;
stops when validation has not improved for `patience` epochs. The clock runs from loading prepared
data to the restored best weights: building, compiling kernels, the recorder and every validation
included; once more without the recorder. Then full ranking of all test users, as the median of
several passes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import kept
from tasks.data.prepared import PreparedData
from tasks.training.assemble import assemble
from tasks.training.gates import has_gates
from tasks.training.graph_look import GraphLook
from tasks.training.loop import train
from tasks.training.record import Recorder
from tasks.training.validation import FullRankingValidator

SHARED = {"max_seq_len": 200, "batch_size": 128}
OWN = {"embedding_dim": 128}
PASSES = 5


def read_settings(model: str, seed_values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shared settings and the model's, from `params.yaml` with this benchmark's changes."""
    import yaml

    values = yaml.safe_load((kept.ROOT / "params.yaml").read_text())["train"]
    return values["shared"] | SHARED | seed_values, values[model] | OWN


def measure(
    folder: Path, model: str, changes: dict[str, Any], is_recorded: bool = True
) -> dict[str, Any]:
    """One training and what it took, with the recorder of every training or without."""
    shared, section = read_settings(model, changes)
    started = time.perf_counter()
    data = PreparedData.load(folder)
    trial = assemble(model, data, shared, section, seed=0)
    network = trial.parts.model
    with tempfile.TemporaryDirectory() as place:
        inside = GraphLook(shared["max_seq_len"]) if has_gates(network) else None
        recorder = Recorder(Path(place), shared["record_every_steps"], inside)
        observers = [recorder] if is_recorded else []
        record = train(trial.parts, trial.plan, observers=observers)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    network.eval()
    test = FullRankingValidator(data, data.test, shared["max_seq_len"])
    passes = []
    with torch.inference_mode():
        for _ in range(PASSES):
            begun = time.perf_counter()
            metrics = test(network)
            passes.append(time.perf_counter() - begun)
    return {
        "model": model,
        "users": len(data.test.targets),
        "items": data.num_items,
        "events": int(data.train.offsets[-1]),
        "seconds": round(seconds, 1),
        "epochs": record.num_epochs,
        "steps": record.num_steps,
        "stop_reason": record.stop_reason,
        "best_epoch": record.best_epoch,
        "val_ndcg_at_10": round(record.best_value, 4),
        "test_ndcg_at_10": round(metrics["ndcg_at_10"], 4),
        "test_hit_rate_at_10": round(metrics["hit_rate_at_10"], 4),
        "seconds_per_epoch": [round(row["seconds"], 2) for row in record.history],
        "evaluation_seconds": round(median(passes), 3),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared data")
    parser.add_argument("--models", nargs="+", default=["xlstm"])
    parser.add_argument("--epochs", type=int, help="at most; by default as the settings say")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    changes = {"max_epochs": options.epochs} if options.epochs else {}
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    for model in options.models:
        for is_recorded in (True, False):
            name = model if is_recorded else f"{model} without recorder"
            results[name] = measure(options.data, model, changes, is_recorded)
            print(json.dumps(results[name]), flush=True)
            kept.write(results, options.json)


if __name__ == "__main__":
    main()
