"""Settings and records as MLflow wants them: flat, few keys, one name for every model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_VALUE_LENGTH = 6000
FULL_STEP_RECORDS = 256
NOT_METRICS = ("epoch", "step", "is_best")


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

    The model's section is named ``model.*`` for every model, so that a column of the compare
    page holds the same setting of all of them. Sections of other models are left out.

    Args:
        settings: All settings as plain dictionaries.
        model: Name of the model.
        seed: Seed of the training.

    >>> nested = {"data": {"split": "temporal"}, "train": {"shared": {"loss": "bpr"},
    ...           "gru": {"num_layers": 1}, "lstm": {"num_layers": 2}}}
    >>> model_parameters(nested, "gru", 3)
    {'model': 'gru', 'seed': '3', 'data.split': 'temporal', 'train.loss': 'bpr', 'model.num_layers': '1'}
    """  # noqa: E501 - the doctest's result is one line
    data = dict(settings.get("data", {}))
    if data.get("source") != "synthetic":
        data.pop("synthetic", None)
    train = settings.get("train", {})
    return flatten(
        {
            "model": model,
            "seed": seed,
            "data": data,
            "train": train.get("shared", {}),
        }
    ) | flatten(train.get(model, {}), "model.")


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

    >>> epoch_values({"epoch": 1, "val/ndcg_at_10": 0.07, "val/ndcg_at_5": 0.05})
    {'val/ndcg_at_10': 0.07}
    """
    metrics = metric_values(values)
    return {
        name: value for name, value in metrics.items() if "_at_" not in name or name.endswith("_10")
    }


def step_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a step's record; loss and learning rate get names apart from the epochs' ones.

    >>> step_values({"step": 20, "train/loss": 4, "grad/norm": 1.5, "grad/clipped": True})
    {'steps/loss': 4.0, 'grad/norm': 1.5, 'grad/clipped': 1.0}
    """
    metrics = metric_values(values, "steps")
    return {name.replace("train/", "steps/"): value for name, value in metrics.items()}


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
