"""Scores at evaluation beside plain inference: one user, no padding, last position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import EvaluationSplit
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from tasks.diagnostics.untouched import untouched

NUM_USERS = 48
NUM_HISTORIES = 256
"""Examples of a split whose histories are compared; they need no model, so more than are scored."""


@dataclass(frozen=True)
class InferenceOracle:
    """Disagreements between the program's scoring path and plain inference."""

    wrong_histories: int = quantity("histories at scoring, of both splits, that are others")
    target_last: int = quantity("histories that end with the target event")
    num_histories: int = quantity("histories compared")
    num_users: int = quantity("users scored both ways")
    largest_difference: float = quantity("standard deviations of the scores")
    follows_last_event: float = quantity("change by another last event, standard deviations")
    padding_score: float = quantity("largest score of the padding column, -inf = ruled out")
    history_side: str = quantity("side padding stands on")
    first_wrong: str = ""

    @property
    def knows_targets(self) -> bool:
        """Most of the wrong histories end with the very event to predict."""
        return self.target_last > 0.5 * self.wrong_histories


def measure(probe: Probe) -> InferenceOracle:
    """Compare histories of both splits, then score test users both ways with the same weights."""
    split = probe.data.test
    if len(split) == 0:
        raise NotMeasuredError("test examples")
    index = _short_and_long(probe, split, NUM_USERS)
    max_len = probe.subject.declared.max_seq_len
    histories = probe.ask("make_histories", probe.data, split, index, max_len)
    expected = [expected_history(probe, split, int(i)) for i in index]
    item_ids, lengths_given, times = (torch.as_tensor(np.asarray(part)) for part in histories)
    wrong, ends, compared = _histories(probe)
    oracle = torch.cat([_plain(probe, items, when) for items, when in expected])
    found = _score(probe, item_ids, lengths_given, times)
    unit = float(oracle.std(correction=0))
    difference = float((found[:, 1:] - oracle).abs().nan_to_num(torch.inf).max())
    return InferenceOracle(
        wrong_histories=len(wrong),
        target_last=ends,
        num_histories=compared,
        num_users=len(index),
        largest_difference=difference / unit if unit > 0 else float(difference > 0),
        follows_last_event=_follows(probe, item_ids, lengths_given, times, found, unit),
        padding_score=float(found[:, 0].max()),
        history_side=_side(item_ids),
        first_wrong=wrong[0] if wrong else "",
    )


def _short_and_long(probe: Probe, split: EvaluationSplit, count: int) -> np.ndarray:
    """Return examples with short and with long histories, so that padding and truncation occur."""
    train = np.asarray(probe.data.train.lengths)
    lengths = train[np.asarray(split.users)] + split.extra.lengths
    order = np.argsort(lengths, kind="stable")
    index = np.unique(np.concatenate([order[: count // 2], order[-(count // 2) :]]))
    return index[lengths[index] > 0]


def _histories(probe: Probe) -> tuple[list[str], int, int]:
    """Return the places of wrong histories, how many end with their target, and how many there are.

    Validation chooses what is tested, so its histories are compared like those of test.
    """
    wrong, ends, compared = [], 0, 0
    max_len = probe.subject.declared.max_seq_len
    for split in (probe.data.test, probe.data.val):
        index = _short_and_long(probe, split, NUM_HISTORIES)
        if len(index) == 0:
            continue
        made = probe.ask("make_histories", probe.data, split, index, max_len)
        item_ids, lengths = np.asarray(made[0]), np.asarray(made[1])
        compared += len(index)
        for row, example in enumerate(index):
            items = expected_history(probe, split, int(example))[0].tolist()
            given = item_ids[row][item_ids[row] > 0].tolist()
            if given != items or int(lengths[row]) != len(items):
                wrong.append(f"example {int(example)} of the {split.name} split")
                target = int(split.targets[example])
                ends += int(given[-1:] == [target] and items[-1:] != [target])
    return wrong, ends, compared


def expected_history(
    probe: Probe, split: EvaluationSplit, example: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return items and times of an example's history: training, then held-out events, the last."""
    train, user = probe.data.train, int(split.users[example])
    own = slice(int(train.offsets[user]), int(train.offsets[user + 1]))
    extra = slice(int(split.extra.offsets[example]), int(split.extra.offsets[example + 1]))
    items = np.concatenate([train.items[own], split.extra.items[extra]]).astype(np.int64)
    times = np.concatenate([train.times[own], split.extra.times[extra]])
    limit = probe.subject.declared.max_seq_len
    return items[-limit:], times[-limit:]


def _plain(probe: Probe, items: np.ndarray, times: np.ndarray) -> Tensor:
    """Scores of real items after the last event of one unpadded history, float64 (1, V - 1)."""
    ids = torch.from_numpy(items)[None]
    batch = Batch(ids, torch.ones_like(ids), ids > 0, torch.from_numpy(times)[None])
    return probe.replay(batch)[:, -1]


def _score(probe: Probe, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
    """Scores by the program's own path, float64 (B, V), from a model as `replay` uses it.

    The model has scored with other weights before, as in training: scores belong to weights.
    """
    with untouched(), torch.no_grad():
        model = probe.model()
        probe.ask("score", model, item_ids, lengths, times)
        shake_weights(model, probe.seed)
        model.to(probe.precision)
        torch.manual_seed(probe.seed)
        scores = probe.ask("score", model, item_ids, lengths, times)
    expected = (len(item_ids), probe.data.num_items + 1)
    if tuple(scores.shape) != expected:
        raise SubjectError("score", f"returned {tuple(scores.shape)}; expected {expected}")
    return scores.double()


def _follows(
    probe: Probe, item_ids: Tensor, lengths: Tensor, times: Tensor, before: Tensor, unit: float
) -> float:
    """Largest change of a score when the last event of every history is another item."""
    changed = item_ids.clone()
    for row in range(len(changed)):
        real = (changed[row] > 0).nonzero().flatten()
        if len(real):
            changed[row, real[-1]] = changed[row, real[-1]] % probe.data.num_items + 1
    after = _score(probe, changed, lengths, times)
    both = torch.isfinite(after[:, 1:]) & torch.isfinite(before[:, 1:])
    moved = torch.where(both, (after - before)[:, 1:].abs(), 0.0)
    change = float(moved.max(dim=1).values.min())
    return change / unit if unit > 0 else 0.0


def _side(item_ids: Tensor) -> str:
    real = item_ids > 0
    right = bool((real[:, 0] & ~real[:, -1]).any())
    left = bool((~real[:, 0] & real[:, -1]).any())
    return {(1, 0): "right", (0, 1): "left", (1, 1): "both", (0, 0): "none"}[right, left]
