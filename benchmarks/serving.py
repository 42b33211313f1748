"""Latency and memory of serving event by event: `python -m benchmarks.serving`.

Every model gets 10,000 users with a state each, of whom some have a history as long as the window;
then single events of those arrive, and after each the ten best of 100,000 items are asked for.
Weights are random, as only time is measured. Each model runs in a process of its own on one CPU
thread. Prints one JSON object: median and p99 of the whole answer and medians of its parts in
milliseconds, and the memory of all states. Wall time is what a caller waits; CPU time of the thread
is the same on an idle machine and says what the work costs on a busy one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import kept
from tasks.serving.history import History
from tasks.serving.incremental import IncrementalRecommender
from tasks.settings import TrainSettings
from tasks.training.models import NeuralModel, model_spec

MODELS = ("gru", "lstm", "sasrec", "xlstm")
TOP_K = 10
WARM_UP = 50
ACTIVE_USERS = 200
"""Users with a whole window of events, from whom the measured ones come."""


def build(name: str, num_items: int, embedding_dim: int, max_seq_len: int):
    """A model with the default settings and random weights."""
    spec = model_spec(name)
    assert isinstance(spec, NeuralModel)
    settings = getattr(TrainSettings(), name).model_dump() | {"embedding_dim": embedding_dim}
    return spec.build(num_items, settings, max_seq_len=max_seq_len)


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Feed events and ask for the best items; see the module's first lines."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    model = build(name, options.items, options.dim, options.max_seq_len)
    serving = IncrementalRecommender(
        model, max_len=options.max_seq_len, max_users=options.users, seen_window=options.seen
    )
    for user in range(options.users):
        serving.feed(str(user), int(generator.integers(1, options.items + 1)))
    active = min(ACTIVE_USERS, options.users)
    for user in range(active):
        history = generator.integers(1, options.items + 1, options.max_seq_len)
        serving.start(str(user), History(history, None))
    users = generator.integers(0, active, options.events + WARM_UP)
    items = generator.integers(1, options.items + 1, options.events + WARM_UP)
    walls, cpus = np.empty((2, len(users), 2))
    for number, (user, item) in enumerate(zip(users, items, strict=True)):
        began = time.perf_counter(), time.thread_time()
        serving.feed(str(user), int(item))
        fed = time.perf_counter(), time.thread_time()
        answer = serving.recommend(str(user), TOP_K)
        ended = time.perf_counter(), time.thread_time()
        walls[number] = fed[0] - began[0], ended[0] - fed[0]
        cpus[number] = fed[1] - began[1], ended[1] - fed[1]
        assert len(answer.items) == TOP_K
    return {
        **quantiles("wall", walls[WARM_UP:]),
        **quantiles("cpu", cpus[WARM_UP:]),
        "states_mib": round(serving.store.nbytes / 2**20, 1),
        "bytes_per_user": serving.store.bytes_per_user,
    }


def quantiles(kind: str, seconds: np.ndarray) -> dict[str, float]:
    """Median and p99 of whole answers, and medians of their parts (N, 2), in milliseconds."""
    parts = 1000 * seconds
    whole = parts.sum(axis=1)
    return {
        f"{kind}_median_ms": round(float(np.median(whole)), 3),
        f"{kind}_p99_ms": round(float(np.quantile(whole, 0.99)), 3),
        f"{kind}_median_feed_ms": round(float(np.median(parts[:, 0])), 3),
        f"{kind}_median_recommend_ms": round(float(np.median(parts[:, 1])), 3),
    }


def main() -> None:
    """Measure every model, or (with --only) one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="catalogue")
    parser.add_argument("--dim", type=int, default=64, help="embedding_dim of every model")
    parser.add_argument("--users", type=int, default=10_000, help="users with a state")
    parser.add_argument("--events", type=int, default=2_000, help="events measured")
    parser.add_argument("--max-seq-len", type=int, default=100, help="window of the models")
    parser.add_argument("--seen", type=int, default=0, help="seen items left out per user")
    parser.add_argument("--only", choices=MODELS, help="measure one model in this process")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    if options.only:
        found = measure(options.only, options)
        print(json.dumps(found))
        kept.write({options.only: found}, options.json, add=True)
        return
    result: dict[str, object] = {
        key: value for key, value in vars(options).items() if key not in ("only", "json")
    }
    for name in MODELS:
        command = [sys.executable, "-m", "benchmarks.serving", "--only", name, *sys.argv[1:]]
        finished = subprocess.run(command, check=True, capture_output=True, text=True)
        result[name] = json.loads(finished.stdout)
    print(json.dumps(result, indent=2))
    kept.write(result, options.json)


if __name__ == "__main__":
    main()
