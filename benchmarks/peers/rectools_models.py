"""RecTools' SASRec and HSTU on a run's prepared data.

In an environment that holds RecTools (``pip install "rectools[torch]"``) and NumPy, from the
project's folder::

    python -m benchmarks.peers.rectools_models runs/movielens-100k --model sasrec --json FILE

Width, window, batch and most epochs are those of the run's preset, the loss RecTools' full softmax.
Validation after every few epochs chooses how long to train; the test events are ranked once, with
the weights chosen. Metrics are of its 10 best items, nothing filtered, where the history of a test
event holds the validation event, as in this project's own evaluation.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel

from tasks.data.prepared import EvaluationSplit, PreparedData

MODELS = {"sasrec": SASRecModel, "hstu": HSTUModel}
K = 10


def interactions(data: PreparedData, split: EvaluationSplit | None) -> pd.DataFrame:
    """Training events, and those a split's histories hold besides, in the order of the log."""
    users = np.repeat(np.arange(len(data.train)), data.train.lengths)
    parts = [(users, data.train.items)]
    if split is not None:
        parts.append((np.repeat(split.users, split.extra.lengths), split.extra.items))
    user, item = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(user, kind="stable")
    # RecTools sorts by time; a running number keeps events of the same time in their order.
    times = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(user)), unit="s")
    return pd.DataFrame(
        {"user_id": user[order], "item_id": item[order], "weight": 1.0, "datetime": times}
    )


def score(model: Any, data: PreparedData, split: EvaluationSplit) -> dict[str, float]:
    """NDCG@10 and HR@10 of a split's targets."""
    dataset = Dataset.construct(interactions(data, split if split.name == "test" else None))
    found = model.recommend(split.users, dataset, k=K, filter_viewed=False)
    targets = dict(zip(split.users.tolist(), split.targets.tolist(), strict=True))
    hits = found[found["item_id"] == found["user_id"].map(targets)]
    gains = 1.0 / np.log2(hits["rank"].to_numpy() + 1.0)
    return {
        "ndcg_at_10": float(gains.sum() / len(targets)),
        "hit_rate_at_10": len(hits) / len(targets),
    }


def run(folder: Path, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train, choose the epoch on validation and rank the test events."""
    data = PreparedData.load(folder / "data" / "prepared")
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    model = MODELS[name](
        n_factors=options.width,
        session_max_len=options.length,
        batch_size=64,
        lr=options.learning_rate,
        dropout_rate=options.dropout,
        n_blocks=2,
        n_heads=2,
        loss="softmax",
        epochs=options.every,
        recommend_torch_device="cpu",
    )
    dataset = Dataset.construct(interactions(data, None))
    start, cpu = time.perf_counter(), time.process_time()
    best, best_epoch, weights, curve = -math.inf, 0, None, []
    for epoch in range(options.every, options.epochs + 1, options.every):
        model.fit_partial(dataset, min_epochs=options.every, max_epochs=options.every)
        value = score(model, data, data.val)["ndcg_at_10"]
        curve.append(round(value, 4))
        print(f"{name} epoch {epoch}: validation NDCG@10 {value:.4f}", flush=True)
        if value > best:
            best, best_epoch = value, epoch
            weights = copy.deepcopy(model.torch_model.state_dict())
        elif epoch - best_epoch >= 3 * options.every:
            break
    model.torch_model.load_state_dict(weights)
    return {
        "model": f"rectools-{name}",
        "seed": options.seed,
        "best_epoch": best_epoch,
        "val/ndcg_at_10": best,
        "curve": curve,
        **{f"test/{metric}": value for metric, value in score(model, data, data.test).items()},
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main() -> None:
    """Run one model and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=sorted(MODELS), default="sasrec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--every", type=int, default=5, help="epochs between validations")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = run(options.folder, options.model, options)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
