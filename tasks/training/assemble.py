"""From plain settings and prepared data to a training that is ready to start.

>>> # trial = assemble("gru", PreparedData.load(folder), shared, section, seed=0)
>>> # record = train(trial.parts, trial.plan)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tasks.data.prepared import PreparedData
from tasks.training.batches import WindowBatches
from tasks.training.graph_step import GraphStep
from tasks.training.models import NeuralModel, NeuralRecommender, model_spec
from tasks.training.negatives import NegativeSampler, item_distribution
from tasks.training.objective import FullCrossEntropy, SampledObjective, make_objective
from tasks.training.plan import TrainingPlan
from tasks.training.step import TrainingParts, train_step
from tasks.training.validation import FullRankingValidator

PLAN_SETTINGS = (
    "max_epochs",
    "patience",
    "warmup_steps",
    "schedule",
    "final_learning_rate",
    "max_grad_norm",
    "checkpoint_every_steps",
)
"""Shared settings the plan takes as they are."""


@dataclass(frozen=True)
class Trial:
    """One training, ready to start.

    Attributes:
        recommender: the model; training changes its network in place.
        parts: what `train` takes.
        plan: how to train.
        batches: the training data, also in ``parts``.
    """

    recommender: NeuralRecommender
    parts: TrainingParts
    plan: TrainingPlan
    batches: WindowBatches


def assemble(
    model: str,
    data: PreparedData,
    shared: Mapping[str, Any],
    section: Mapping[str, Any],
    *,
    seed: int = 0,
) -> Trial:
    """Builds a neural model and everything its training needs.

    Args:
        model: a neural model of `MODELS`.
        data: prepared data.
        shared: values of the settings ``train.shared``.
        section: values of the settings ``train.<model>``.
        seed: seed of weights, batches, dropout and negatives.

    Raises:
        ValueError: the model is unknown or not a neural one.
    """
    spec = model_spec(model)
    if not isinstance(spec, NeuralModel):
        raise ValueError(
            f"model is {model!r}, which is fitted, not trained; expected a neural one."
        )
    device = resolve_device(shared["device"])
    max_seq_len = shared["max_seq_len"]
    recommender = spec.build(data.num_items, section, max_seq_len=max_seq_len, seed=seed)
    recommender.model.to(device)
    batches = WindowBatches(
        data.train.items,
        data.train.offsets,
        max_seq_len=max_seq_len,
        batch_size=shared["batch_size"],
        seed=seed,
        times=data.train.times if section.get("time_gaps") else None,
        device=device,
    )
    objective = build_objective(data, shared, device)
    shape = (shared["batch_size"], batches.longest_window)
    has_graph = (
        device.type == "cuda"
        and GraphStep.fits(recommender.model, objective, *shape)
        and GraphStep.pays(batches)
    )
    parts = TrainingParts(
        model=recommender.model,
        objective=objective,
        batches=batches,
        validate=FullRankingValidator(data, data.val, max_seq_len),
        step=GraphStep(*shape) if has_graph else train_step,
    )
    plan = TrainingPlan(
        learning_rate=section["learning_rate"],
        weight_decay=section["weight_decay"],
        precision=resolve_precision(shared["precision"], device),
        seed=seed,
        **{key: shared[key] for key in PLAN_SETTINGS},
    )
    return Trial(recommender, parts, plan, batches)


def build_objective(
    data: PreparedData, shared: Mapping[str, Any], device: torch.device
) -> FullCrossEntropy | SampledObjective:
    """The loss of the shared settings, with its negative sampler where it needs one."""
    sampler = None
    if shared["loss"] != "cross_entropy":
        probabilities = item_distribution(
            data.num_items, shared["negatives"], data.item_counts, shared["popularity_exponent"]
        )
        sampler = NegativeSampler(
            probabilities,
            num_negatives=shared["num_negatives"],
            scope=shared["negatives_per"],
            collisions=shared["collisions"],
            items=data.train.items,
            offsets=data.train.offsets,
            device=device,
        )
    return make_objective(
        shared["loss"],
        label_smoothing=shared["label_smoothing"],
        sampler=sampler,
        calibration=shared["gbce_calibration"],
    )


def resolve_device(name: str) -> torch.device:
    """The device of the setting ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: ``cuda`` where torch sees none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "train.shared.device is 'cuda', but torch finds no GPU; expected 'auto' or 'cpu' here."
        )
    has_gpu = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if has_gpu else "cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """The arithmetic of the setting ``auto``, ``float32`` or ``bf16``.

    >>> resolve_precision("auto", torch.device("cpu"))
    'float32'
    """
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" else "float32"
