"""What trained models give without more training: ensembles of seeds, scores with less popularity.

    python -m benchmarks.after_training runs/movielens-100k --model xlstm

Validation NDCG@10, so that nothing is chosen on test events. An ensemble adds the log-probabilities
of its members; a correction takes ``strength`` times the log of an item's training count, plus one,
off its score.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import PreparedData
from tasks.evaluation.metrics import ndcg
from tasks.evaluation.ranking import rank_targets
from tasks.settings import load_settings
from tasks.training.models import load_recommender

STRENGTHS = (0.1, 0.2, 0.4)
SIZES = (2, 3, 5)


def log_probabilities(folder: Path, data: PreparedData, max_len: int) -> Tensor:
    """Of every item for every validation example by one trained model, (E, V)."""
    recommender = load_recommender(folder)
    histories = data.histories(data.val, np.arange(len(data.val.targets)), max_len)
    inputs = (histories.item_ids, histories.lengths, histories.times)
    parts = zip(*(torch.as_tensor(array).split(256) for array in inputs), strict=True)
    with torch.inference_mode():
        return torch.cat([recommender.score(*part).log_softmax(-1) for part in parts])


def quality(scores: Tensor, targets: Tensor) -> float:
    """NDCG@10 of scores (E, V).

    >>> quality(torch.tensor([[float("-inf"), 2.0, 1.0]]), torch.tensor([1]))
    1.0
    """
    return float(ndcg(rank_targets(scores, targets).numpy(), 10).mean())


def measure(folder: Path, model: str) -> dict[str, list[float]]:
    """NDCG@10 by what was done, a value per seed or group of seeds."""
    settings = load_settings(folder / "params.yaml")
    data = PreparedData.load(folder / "data" / "prepared")
    targets = torch.from_numpy(np.array(data.val.targets, np.int64))
    places = [folder / "artifacts/models" / model / f"seed_{s}" for s in settings.experiment.seeds]
    length = settings.train.shared.max_seq_len
    seeds = [log_probabilities(place, data, length) for place in places]
    popularity = torch.from_numpy(np.log1p(data.item_counts)).float()
    found = {"one seed": [quality(scores, targets) for scores in seeds]}
    for strength in STRENGTHS:
        corrected = [quality(scores - strength * popularity, targets) for scores in seeds]
        found[f"popularity off with strength {strength}"] = corrected
    for size in [size for size in SIZES if size <= len(seeds)]:
        groups = combinations(seeds, size)
        found[f"ensemble of {size} seeds"] = [quality(sum(group), targets) for group in groups]
    return found


def main() -> None:
    """Print a row for each change."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="xlstm")
    options = parser.parse_args()
    for name, values in measure(options.folder, options.model).items():
        spread = stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: {mean(values):.4f} ± {spread:.4f} ({len(values)})")


if __name__ == "__main__":
    main()
