"""Leakage that is measured: knowledge of a later time, and copies of held-out events."""

from __future__ import annotations

import numpy as np

from tasks.data.encoding import Vocabulary
from tasks.data.events import chunks
from tasks.data.leakage import CheckResult
from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.data.recipe import SplitKind


def check_future_training(data: PreparedData, users: Vocabulary, kind: SplitKind) -> CheckResult:
    """Check how much of the training data is later than what is predicted.

    Under leave-one-out some always is, a property of the protocol (Ji et al., "A Critical Study
    on Data Leakage in Recommender System Offline Evaluation", 2023): a warning with its number.
    A temporal split promises none: an exact check.
    """
    ordered = np.sort(data.train.times)
    numbers: dict[str, float] = {}
    for split in (data.val, data.test):
        later = len(ordered) - np.searchsorted(ordered, split.target_times, side="right")
        shares = later / max(len(ordered), 1)
        numbers[f"{split.name}_mean_share"] = float(shares.mean()) if len(shares) else 0.0
        numbers[f"{split.name}_median_share"] = float(np.median(shares)) if len(shares) else 0.0
        numbers[f"{split.name}_max_share"] = float(shares.max(initial=0.0))
        if kind == "temporal" and shares.any():
            at = int(np.argmax(shares))
            message = (
                f"{int(later[at])} training events are later than the {split.name} target of user "
                f"{users.decode(split.users[at : at + 1])[0]!r}, row "
                f"{int(split.target_rows[at])}; a temporal split promises none."
            )
            return CheckResult("future_training", True, False, message, numbers)
    share = numbers["test_mean_share"]
    message = f"on average {share:.1%} of the training events are later than a test target."
    if kind == "leave_one_out" and share > 0:
        message += " Leave-one-out allows it; data.split: temporal does not."
    return CheckResult("future_training", kind == "temporal", share == 0, message, numbers)


def check_duplicates(data: PreparedData, users: Vocabulary) -> CheckResult:
    """Check how many targets are copies (user, item and time) of an event in their history.

    Two rows that agree in all three may be one event logged twice or two units bought at once;
    the log alone can't say, so this is reported. ``data.duplicates: drop`` keeps the first only.
    """
    numbers: dict[str, float] = {}
    example = ""
    for split in (data.val, data.test):
        copied = _find_copied(data, split)
        numbers[f"{split.name}_targets_copied"] = len(copied)
        if len(copied) and not example:
            example = (
                f" The first: user {users.decode(split.users[copied[:1]])[0]!r}, row "
                f"{int(split.target_rows[copied[0]])}."
            )
    total = int(sum(numbers.values()))
    if not total:
        message = "no target is a copy of an event in its history."
    else:
        message = (
            f"{total} targets equal an event of their history in user, item and time.{example} If "
            "these are double entries, set data.duplicates: drop."
        )
    return CheckResult("duplicates_across_splits", False, total == 0, message, numbers)


def _find_copied(data: PreparedData, split: EvaluationSplit) -> np.ndarray:
    """Return examples with an event of equal item and time in their history, ascending."""
    example_of = np.full(len(data.train), -1, dtype=np.int32)
    example_of[split.users] = np.arange(len(split))
    in_train = np.repeat(example_of, data.train.lengths)
    in_extra = np.repeat(np.arange(len(split), dtype=np.int32), split.extra.lengths)
    found = [_equal(split, data.train, in_train), _equal(split, split.extra, in_extra)]
    return np.unique(np.concatenate(found))


def _equal(split: EvaluationSplit, history: PackedSequences, examples: np.ndarray) -> np.ndarray:
    found = [np.zeros(0, dtype=examples.dtype)]
    for part in chunks(len(examples) if len(split) else 0):
        owners = examples[part]
        # An event of no example is compared with the last one and not counted.
        same = history.times[part] == split.target_times[owners]
        same &= history.items[part] == split.targets[owners]
        found.append(owners[same & (owners >= 0)])
    return np.concatenate(found)
