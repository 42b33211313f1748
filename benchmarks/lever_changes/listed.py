"""Every change of one training by name: what `benchmarks.levers` sets, and what no setting does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.lever_changes.averaging import average_weights
from benchmarks.lever_changes.dropout import drop_embeddings, drop_in_blocks, hide_events
from benchmarks.lever_changes.forget_gate import start_forget_bias
from benchmarks.lever_changes.muon import use_muon
from benchmarks.lever_changes.rates import scale_rates
from benchmarks.lever_changes.schedule_free import use_schedule_free
from benchmarks.lever_changes.scores import learn_temperature, normalize
from benchmarks.levers import LEVERS as SETTINGS
from benchmarks.levers import MODEL
from tasks.training.assemble import Trial
from tasks.training.step import train_step

TEMPERATURE = 1 / 16


def unchanged(trial: Trial) -> Trial:
    """The training as it was assembled."""
    return trial


def without_replay(trial: Trial) -> Trial:
    """Steps run one operation at a time on GPUs too: the control of changes that need it."""
    return replace(trial, parts=replace(trial.parts, step=train_step))


@dataclass(frozen=True)
class Lever:
    """One change to the tuned training.

    Attributes:
        apply: changes the assembled training.
        settings: section of ``train`` -> what is changed in it, before that.
    """

    apply: Callable[[Trial], Trial] = unchanged
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


CHANGES: dict[str, Lever] = {
    "muon": Lever(use_muon),
    "schedule-free": Lever(use_schedule_free),
    "averaged-weights-0.98": Lever(partial(average_weights, decay=0.98)),
    "averaged-weights-0.995": Lever(partial(average_weights, decay=0.995)),
    "cosine-scores": Lever(partial(normalize, temperature=TEMPERATURE)),
    "cosine-scores-learned": Lever(partial(learn_temperature, start=TEMPERATURE)),
    "embedding-dropout-0": Lever(partial(drop_embeddings, share=0.0)),
    "embedding-dropout-0.3": Lever(partial(drop_embeddings, share=0.3)),
    "block-dropout-0.3": Lever(partial(drop_in_blocks, share=0.3)),
    "event-dropout-0.1": Lever(partial(hide_events, share=0.1)),
    "event-dropout-0.2": Lever(partial(hide_events, share=0.2)),
    "forget-bias-0": Lever(partial(start_forget_bias, value=0.0)),
    "forget-bias-3": Lever(partial(start_forget_bias, value=3.0)),
    "embedding-rate-0.3": Lever(partial(scale_rates, embedding=0.3)),
    "matrix-rate-0.3": Lever(partial(scale_rates, matrices=0.3)),
    "matrix-rate-3": Lever(partial(scale_rates, matrices=3.0)),
    "width-128-matrix-rate-0.5": Lever(
        partial(scale_rates, matrices=0.5), {MODEL: {"embedding_dim": 128}}
    ),
    "without-replay": Lever(without_replay),
}
"""What no setting does."""

LEVERS: dict[str, Lever] = {
    name: Lever(settings={section: values}) for name, (section, values) in SETTINGS.items()
} | CHANGES
"""All of them."""
