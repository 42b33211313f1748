"""Speed and memory of evaluation by full ranking: `python -m benchmarks.evaluation`.

Three measurements, each in a process of its own so that the peak memory is that of the work alone:

- `ml1m`: every model's scores ranked for 6,040 users by 3,417 items, as training does each epoch;
- `large`: users by 500,000 items scored by one matrix product (D = 64), extrapolated to 100,000;
- `comparison`: intervals and tests of seven models on 6,040 users.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import kept
from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.evaluation.evaluate import rank_split

EVENTS_PER_USER = 165
MAX_SEQ_LEN = 50
EMBEDDING_DIM = 64


def make_data(num_users: int, num_items: int, events: int) -> PreparedData:
    """Random histories of equal length with Zipf popularity, one target each."""
    generator = np.random.default_rng(0)
    weights = 1 / np.arange(1, num_items + 1)
    items = 1 + generator.choice(num_items, num_users * events, p=weights / weights.sum())
    numbers = np.arange(num_users * events)
    train = PackedSequences(
        items.astype(np.int32), numbers, numbers, np.arange(num_users + 1) * events
    )
    users = np.arange(num_users)
    nothing = np.zeros(0, np.int64)
    empty = PackedSequences(
        nothing.astype(np.int32), nothing, nothing, np.zeros(num_users + 1, np.int64)
    )
    targets = generator.integers(1, num_items + 1, num_users)
    val, test = (EvaluationSplit(n, users, targets, users, users, empty) for n in ("val", "test"))
    return PreparedData(Path("."), num_users, num_items, {}, train, val, test)


def timed(score, data: PreparedData, filter_seen: str, top_k: int) -> dict[str, float]:
    """Rank the test split once and return what it took."""
    started, cpu = time.perf_counter(), time.process_time()
    rank_split(score, data, data.test, max_len=MAX_SEQ_LEN, filter_seen=filter_seen, top_k=top_k)
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_gib": peak_memory(),
    }


def measure_ml1m() -> dict[str, dict[str, float]]:
    """Ranking alone, then ranking with each model's scoring."""
    from tasks.settings import TrainSettings
    from tasks.training.models import MODELS, CountModel

    data = make_data(6040, 3417, EVENTS_PER_USER)
    scores = torch.rand(512, data.num_items + 1)

    def precomputed(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        return scores[: len(item_ids)]

    found = {
        "ranking_alone": timed(precomputed, data, "no", 0),
        "ranking_filtered_and_lists": timed(precomputed, data, "both", 10),
    }
    for spec in MODELS:
        settings = getattr(TrainSettings(), spec.name).model_dump()
        if isinstance(spec, CountModel):
            model = spec.fit(data.train.items, data.train.offsets, data.num_items, settings)
        else:
            model = spec.build(data.num_items, settings, max_seq_len=MAX_SEQ_LEN)
        found[spec.name] = timed(model.score, data, "no", 0)
    return found


def measure_large(num_users: int, num_items: int = 500_000) -> dict[str, float]:
    """Mean of the history's embeddings times all item embeddings."""
    data = make_data(num_users, num_items, 20)
    embeddings = torch.randn(num_items + 1, EMBEDDING_DIM)

    def score(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        return embeddings[item_ids].mean(dim=1) @ embeddings.T

    found = timed(score, data, "both", 10)
    per_user = found["cpu_seconds"] / num_users
    full_matrix = num_users * (num_items + 1) * 4 / 2**30
    return found | {
        "users": num_users,
        "cpu_hours_for_100000_users": round(per_user * 100_000 / 3600, 2),
        "full_matrix_gib": round(full_matrix, 2),
        "embeddings_gib": round(embeddings.numel() * 4 / 2**30, 2),
    }


def measure_comparison() -> dict[str, float]:
    """Seven models, twelve metrics, 2,000 resamples, 42 tests of 10,000 sign flips."""
    from tasks.evaluation.comparison import compare

    generator = np.random.default_rng(0)
    ranks = {f"model_{i}": generator.integers(1, 200 + i, (1, 6040)) for i in range(7)}
    started = time.perf_counter()
    compare(ranks)
    return {"seconds": round(time.perf_counter() - started, 2), "peak_memory_gib": peak_memory()}


def peak_memory() -> float:
    """Largest resident size of this process so far, in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def main() -> None:
    """Run all measurements, or (with --only) one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000, help="users of the large catalogue")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--only", choices=("ml1m", "large", "comparison"))
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only == "ml1m":
        print(json.dumps(measure_ml1m()))
    elif options.only == "large":
        print(json.dumps(measure_large(options.users)))
    elif options.only == "comparison":
        print(json.dumps(measure_comparison()))
    else:
        shared = ["--users", str(options.users), "--threads", str(options.threads)]
        results = {"threads": options.threads}
        for name in ("ml1m", "large", "comparison"):
            command = [sys.executable, "-m", "benchmarks.evaluation", "--only", name, *shared]
            finished = subprocess.run(command, check=True, capture_output=True, text=True)
            results[name] = json.loads(finished.stdout)
        print(json.dumps(results, indent=2))
        kept.write(results, options.json)


if __name__ == "__main__":
    main()
