"""What a search draws: one space for all neural models, and what only single models have.

What all models share (`train.shared`: loss, window, batch, epochs) is no part of it: a comparison
is fair only where it is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

Section = dict[str, Any]

LEARNING_RATES = (5e-4, 1e-2)
"""Bounds of the log-uniform learning rate."""

COMMON: Mapping[str, tuple] = {
    "dropout": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "weight_decay": (0.01, 0.1, 0.3),
    "tied": (True, False),
    "num_layers": (1, 2),
}
"""Choices every neural model has."""

OWN: Mapping[str, Mapping[str, tuple]] = {
    "gru": {},
    "lstm": {},
    "sasrec": {"num_heads": (1, 2, 4)},
    # A repetition of the pattern is two blocks, so one repetition is as deep as two layers.
    "xlstm": {"num_layers": (1,), "pattern": ("m", "s", "ms", "sm"), "num_heads": (1, 2, 4)},
}
"""Choices of single models; they take the place of the common ones of the same name."""


def tunable() -> tuple[str, ...]:
    """Models that have something to tune.

    >>> tunable()
    ('gru', 'lstm', 'sasrec', 'xlstm')
    """
    return tuple(OWN)


def suggest(trial: optuna.trial.BaseTrial, model: str, base: Section) -> Section:
    """Draw a model's section of the settings.

    Args:
        trial: What draws.
        model: One of `tunable`.
        base: The section to start from; what is not drawn stays.

    Raises:
        ValueError: The model has nothing to tune.
    """
    if model not in OWN:
        raise ValueError(f"model is {model!r}; expected one of {', '.join(OWN)}.")
    low, high = LEARNING_RATES
    drawn: Section = {"learning_rate": trial.suggest_float("learning_rate", low, high, log=True)}
    for name, choices in {**COMMON, **OWN[model]}.items():
        drawn[name] = trial.suggest_categorical(name, choices)
    drawn["learning_rate"] = float(f"{drawn['learning_rate']:.2g}")
    return {**base, **drawn}


def start_of(model: str, base: Section) -> Section | None:
    """What a search would have to draw to try a model's section as it is; None outside the space.

    >>> start_of("gru", {"learning_rate": 0.5, "dropout": 0.1})
    """
    low, high = LEARNING_RATES
    choices = {**COMMON, **OWN[model]}
    if any(base.get(name) not in values for name, values in choices.items()):
        return None
    if not low <= base["learning_rate"] <= high:
        return None
    return {name: base[name] for name in ("learning_rate", *choices)}


def drawn_section(values: Mapping[str, Any], base: Section) -> Section:
    """The section of a finished trial, from its parameters.

    >>> drawn_section({"learning_rate": 0.0012345, "tied": True}, {"dropout": 0.1})
    {'dropout': 0.1, 'learning_rate': 0.0012, 'tied': True}
    """
    rounded = {**values, "learning_rate": float(f"{values['learning_rate']:.2g}")}
    return {**base, **rounded}
