"""Settings and records as MLflow wants them: flat, few keys, one name for every model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_VALUE_LENGTH = 6000
FULL_STEP_RECORDS = 256
NOT_METRICS = ("epoch", "step", "is_best")
GLANCE = "at_a_glance"
"""First group of metrics: MLflow sorts the sections of its chart pages by name."""
GLANCED = {"val/ndcg_at_10": "val_ndcg_at_10", "train/loss": "train_loss"}
"""Curves that are repeated in the first group, the one that opens the compare page first."""
FIRST_METRIC = f"{GLANCE}/val_ndcg_at_10"
"""Delivered before all others."""
WATCHED = ("grad", "update", "gate", "state", "saturated", "steps")
"""Groups of what is watched inside a training; below ``watch/`` they come last on the pages."""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as dotted keys with text values.

    >>> flatten({"data": {"split": "temporal", "k_core": 5}, "seed": 0})
    {'data.split': 'temporal', 'data.k_core': '5', 'seed': '0'}
    """
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = str(value)[:MAX_VALUE_LENGTH]
    return flat


def model_parameters(settings: Mapping[str, Any], model: str, seed: int) -> dict[str, str]:
    """Parameters of one training: data, shared training settings, and the model's own.

    What several models have is named ``model.*`` for every model, so that a column of the compare
    page holds the same setting of all of them; that page opens on the first names that differ.
    What this model alone has is named ``only.*``. Sections of other models are left out.

    Args:
        settings: All settings as plain dictionaries.
        model: Name of the model.
        seed: Seed of the training.

    >>> nested = {"data": {"split": "temporal"}, "train": {"shared": {"loss": "bpr"},
    ...           "gru": {"num_layers": 1}, "xlstm": {"num_layers": 2, "chunk_size": 64}}}
    >>> parameters = model_parameters(nested, "xlstm", 3)
    >>> [f"{name}={value}" for name, value in parameters.items()]
    ['model=xlstm', 'seed=3', 'data.split=temporal', 'train.loss=bpr', 'model.num_layers=2', \
'only.chunk_size=64']
    """
    data = dict(settings.get("data", {}))
    if data.get("source") != "synthetic":
        data.pop("synthetic", None)
    train = dict(settings.get("train", {}))
    shared = train.pop("shared", {})
    own = train.pop(model, {})
    common = {name for section in train.values() for name in section}
    return flatten(
        {
            "model": model,
            "seed": seed,
            "data": data,
            "train": shared,
        }
        | {f"model.{name}": value for name, value in own.items() if name in common}
        | {f"only.{name}": value for name, value in own.items() if name not in common}
    )


def metric_values(values: Mapping[str, Any], group: str = "train") -> dict[str, float]:
    """Numbers of a record under names MLflow accepts; a name without a group gets ``group``.

    >>> metric_values({"epoch": 3, "val/ndcg_at_10": 0.07, "seconds": 2, "note": "x"})
    {'val/ndcg_at_10': 0.07, 'train/seconds': 2.0}
    """
    metrics: dict[str, float] = {}
    for key, value in values.items():
        if key in NOT_METRICS or not isinstance(value, int | float):
            continue
        name = key if "/" in key else f"{group}/{key}"
        metrics[metric_name(name)] = float(value)
    return metrics


def epoch_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of an epoch's record; of ranking metrics those at 10, to keep charts few.

    The curves looked at first are repeated under ``at_a_glance/``, before all others: MLflow keeps
    the order in which metrics arrive, and its compare page opens on the first.

    >>> epoch_values({"epoch": 1, "val/ndcg_at_10": 0.07, "val/ndcg_at_5": 0.05, "grad/norm": 2})
    {'at_a_glance/val_ndcg_at_10': 0.07, 'val/ndcg_at_10': 0.07, 'watch/grad/norm': 2.0}
    """
    metrics = metric_values(values)
    first = {f"{GLANCE}/{own}": metrics[name] for name, own in GLANCED.items() if name in metrics}
    return first | {
        watched(name): value
        for name, value in metrics.items()
        if "_at_" not in name or name.endswith("_10")
    }


def step_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a step's record; loss and learning rate get names apart from the epochs' ones.

    >>> step_values({"step": 20, "train/loss": 4, "grad/norm": 1.5, "learning_rate": 0.1})
    {'watch/steps/loss': 4.0, 'watch/grad/norm': 1.5, 'watch/steps/learning_rate': 0.1}
    """
    metrics = metric_values(values, "steps")
    return {watched(name.replace("train/", "steps/")): value for name, value in metrics.items()}


def watched(name: str) -> str:
    """Name of a metric, below ``watch/`` where it is watched inside a training.

    >>> watched("gate/block_0/f"), watched("val/ndcg_at_10")
    ('watch/gate/block_0/f', 'val/ndcg_at_10')
    """
    return f"watch/{name}" if name.partition("/")[0] in WATCHED else name


def metric_name(name: str) -> str:
    """A name with only letters, digits and ``_-. :/``, which is what MLflow accepts.

    >>> metric_name("val/ndcg@10")
    'val/ndcg_at_10'
    """
    name = name.replace("@", "_at_")
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-. :/") else "_"
        for letter in name
    )


def kept_records(first: int, count: int, full: int = FULL_STEP_RECORDS) -> list[int]:
    """Which of ``count`` records, the first being number ``first``, go to MLflow.

    All of the first ``full``, then every second until twice as many passed, every fourth until
    four times, and so on: the number kept grows with the logarithm of the training's length.
    All of them stay in ``steps.jsonl``.

    >>> kept_records(0, 10, full=4)
    [0, 1, 2, 3, 4, 6, 8]
    """
    kept = []
    for index in range(first, first + count):
        stride = 1 if index < full else 2 ** (int(math.log2(index / full)) + 1)
        if index % stride == 0:
            kept.append(index)
    return kept
