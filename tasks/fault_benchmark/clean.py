"""The clean program faults are planted in: the pipeline itself, small enough to run in seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tasks.data.recipe import Recipe
from tasks.diagnostics.pipeline_subject import pipeline_subject
from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.logs import EDITS, LOG_SETTINGS, LogSource
from tasks.settings import Settings

SHARED: dict[str, Any] = {
    "max_seq_len": 16,
    "batch_size": 32,
    "max_epochs": 20,
    "patience": 20,
    "num_negatives": 32,
    "warmup_steps": 0,
    "record_every_steps": 5,
}
SECTION: dict[str, Any] = {
    "embedding_dim": 32,
    "num_layers": 1,
    "dropout": 0.2,
    "tied": True,
    "learning_rate": 0.005,
    "weight_decay": 0.01,
    "time_gaps": False,
}
XLSTM_SECTION: dict[str, Any] = {"num_heads": 2, "conv_kernel": 4}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("gru", {}),
    "gru": ("gru", {}),
    "lstm": ("lstm", {}),
    "sasrec": ("sasrec", {"num_heads": 2, "num_layers": 2}),
    "slstm": ("xlstm", {**XLSTM_SECTION, "pattern": "s"}),
    "mlstm": ("xlstm", {**XLSTM_SECTION, "pattern": "m"}),
    "xlstm": ("xlstm", {**XLSTM_SECTION, "pattern": "ms"}),
}
"""Name here -> model of the pipeline and its settings besides `SECTION`."""


class LastItem(nn.Module):
    """Maps every position on its own: a multinomial logistic regression on the last item."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.linear = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        """Map (B, S, D) to (B, S, D); there is no state."""
        y = self.linear(x)
        return (y if mask is None else torch.where(mask[..., None], y, 0.0)), ()

    def step(self, x: Tensor, state: Any) -> Any:
        """Map one position (B, D)."""
        return self.linear(x), ()

    def initial_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> tuple:
        """Nothing."""
        return ()


def clean_subject(
    source: LogSource, model: str, seed: int, settings: Mapping[str, Any] | None = None
) -> Subject:
    """Return the pipeline's program for one model on a log.

    Args:
        source: Where the log comes from.
        model: A key of `MODELS`.
        seed: Seed of the log.
        settings: Settings of log, preparation, training and model that are not the usual ones, by
            their names in `params.yaml`.

    Raises:
        ValueError: The model is unknown, or a setting.
    """
    if model not in MODELS:
        raise ValueError(f"model is {model!r}; expected one of {', '.join(MODELS)}.")
    given = dict(settings or {})
    name, own = MODELS[model]
    defaults = Settings()
    shared = defaults.train.shared.model_dump() | SHARED
    section = getattr(defaults.train, name).model_dump() | SECTION | own
    recipe_fields = {item.name for item in dataclasses.fields(Recipe)}
    log_settings = set(LOG_SETTINGS) | set(EDITS)
    known = {*shared, *section, *recipe_fields, *log_settings, "num_layers", "num_heads"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"settings {unknown} of {model} are unknown; see `params.yaml`.")
    if name == "xlstm" and "num_layers" in given:
        section["pattern"] = section["pattern"] * given["num_layers"]
        section["num_layers"] = 1
        del given["num_layers"]
    recipe = Recipe(**{key: value for key, value in given.items() if key in recipe_fields})
    subject = pipeline_subject(
        name,
        shared | {key: value for key, value in given.items() if key in shared},
        section | {key: value for key, value in given.items() if key in section},
        recipe,
        log=source.log(seed, {k: v for k, v in given.items() if k in log_settings}),
    )
    if model == "linear":
        subject = _memoryless(subject)
    return subject.replace(name=f"{model} on {source.name}", ready=subject.prepared())


def _memoryless(subject: Subject) -> Subject:
    build = subject.build_model

    def build_linear(num_items: int, seed: int, **settings: Any) -> nn.Module:
        settings.pop("num_layers", None)
        model = build(num_items, seed, **settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.sequence_model = LastItem(model.embedding_dim)
        return model.eval()

    declared = dataclasses.replace(subject.declared, reads_history=False)
    return subject.replace(build_model=build_linear, declared=declared)
