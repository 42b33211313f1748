"""Ranking a large catalogue never holds the scores of all users."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NUM_USERS = 165
NUM_ITEMS = 500_000
FULL_MATRIX = 4 * NUM_USERS * (NUM_ITEMS + 1)
"""Bytes of all scores at once: 0.31 GiB, in five batches."""

RANK = f"""
import json, resource
import numpy as np
import torch
from tasks.evaluation import evaluate
from types import SimpleNamespace

torch.set_num_threads(1)
users, items = {NUM_USERS}, {NUM_ITEMS}

class Data:
    num_items = items
    def histories(self, split, index, max_len):
        ids = np.ones((len(index), 2), np.int64)
        return SimpleNamespace(item_ids=ids, lengths=np.full(len(index), 2), times=ids)
    def seen_items(self, split, index):
        return np.arange(len(index)), np.ones(len(index), np.int64)

scores = torch.arange(items + 1, dtype=torch.float32)[None]

def score(item_ids, lengths, times):
    return scores.repeat(len(item_ids), 1)

split = SimpleNamespace(targets=np.arange(users) + items - users + 1)
def rank(split):
    data = Data()
    return evaluate.rank_split(score, data, split, max_len=2, filter_seen="both", top_k=10)
rank(SimpleNamespace(targets=split.targets[:66]))  # two batches take what all of them take
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ranked = rank(split)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({{"bytes": 1024 * peak, "ranks": ranked.ranks[[0, -1]].tolist()}}))
"""


@pytest.mark.long
def test_more_users_take_no_more_memory() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", RANK], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["ranks"] == [NUM_USERS, 1]
    assert found["bytes"] < 0.1 * FULL_MATRIX, f"{found['bytes'] / FULL_MATRIX:.2f} of the matrix"
