"""What the pipeline's settings say its program does, and at which other sizes it has to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.data.recipe import Recipe
from tasks.diagnostics.declared import Declared

SIZES = (2, 4, 7, 8, 9, 16, 33)
"""Widths every model has to run at: tiny ones, odd ones, one below and above usual roundings."""


def variants(model: str) -> tuple[dict[str, Any], ...]:
    """Settings that have to build and run besides the declared ones."""
    sizes = [{"embedding_dim": size} for size in SIZES]
    if model in ("gru", "lstm"):
        return (*sizes, {"num_layers": 2})
    heads = [{"embedding_dim": 8, "num_heads": heads} for heads in (1, 2, 4, 8)]
    narrow = [{**size, "num_heads": 1} for size in sizes]
    if model != "xlstm":
        return (*narrow, *heads)
    kernels = [{"conv_kernel": kernel} for kernel in (1, 2, 3, 8)]
    patterns = [{"pattern": pattern} for pattern in ("m", "s", "msm")]
    return (*narrow, *heads, *kernels, *patterns, {"slstm_conv_gates": "ifzo"})


def declare(
    model: str, shared: Mapping[str, Any], section: Mapping[str, Any], recipe: Recipe
) -> Declared:
    """Return what the settings say the program does."""
    taken = (
        "max_seq_len",
        "loss",
        "label_smoothing",
        "num_negatives",
        "negatives",
        "popularity_exponent",
        "collisions",
        "gbce_calibration",
        "max_grad_norm",
        "batch_size",
        "max_epochs",
    )
    return Declared(
        **{name: shared[name] for name in taken},
        dropout=section["dropout"],
        weight_decay=section["weight_decay"],
        learning_rate=section["learning_rate"],
        tied=section["tied"],
        uses_times=bool(section.get("time_gaps", False)),
        residual=model in ("xlstm", "sasrec"),
        slstm_conv_gates=section.get("slstm_conv_gates", "if"),
        split=recipe.split,
        corpus=recipe.corpus,
        vocabulary=recipe.vocabulary,
        repeats=recipe.repeats,
        rating_threshold=recipe.rating_threshold,
        duplicates=recipe.duplicates,
        min_user_events=recipe.min_user_events,
        min_item_events=recipe.min_item_events,
    )
