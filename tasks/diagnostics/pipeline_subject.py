"""The pipeline itself as a subject: every part is the code that trains and evaluates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PreparedData
from tasks.data.recipe import Recipe
from tasks.diagnostics.pipeline_declared import declare, variants
from tasks.diagnostics.pipeline_log import preparer
from tasks.diagnostics.pipeline_training import train_subject
from tasks.diagnostics.rungs import strip
from tasks.diagnostics.subject import Batch, Draws, PreparedLog, RawLog, Subject
from tasks.evaluation.evaluate import rank_split
from tasks.evaluation.metrics import mean_metrics, per_user_metrics
from tasks.evaluation.ranking import rank_targets
from tasks.training.assemble import build_objective
from tasks.training.batches import WindowBatches
from tasks.training.models import NeuralModel, NeuralRecommender, model_spec
from tasks.training.objective import SampledObjective
from tasks.training.optimizer import make_adamw
from tasks.training.plan import TrainingPlan
from tasks.training.step import train_step

CPU = torch.device("cpu")
EVALUATION_ROWS = 256


def pipeline_subject(
    model: str,
    shared: Mapping[str, Any],
    section: Mapping[str, Any],
    recipe: Recipe,
    *,
    log: RawLog | None = None,
    ready: PreparedLog | None = None,
) -> Subject:
    """Return the pipeline's program for one neural model.

    Args:
        model: A neural model's name.
        shared: Values of the settings `train.shared`.
        section: Values of the settings `train.<model>`.
        recipe: How the log is prepared.
        log: The raw log; without it questions about preparation stay open.
        ready: Prepared data, where they exist already.

    Raises:
        ValueError: The model is no neural one, or there is neither a log nor prepared data.
    """
    spec = model_spec(model)
    if not isinstance(spec, NeuralModel):
        raise ValueError(
            f"model is {model!r}, which is fitted, not trained; expected a neural one."
        )
    if log is None and ready is None:
        raise ValueError("neither log nor ready is given; expected at least one of them.")
    declared = declare(model, shared, section, recipe)
    parts = _Parts(spec, dict(shared), dict(section))
    subject = Subject(
        name=f"{model} pipeline",
        declared=declared,
        log=log,
        prepare=preparer(recipe),
        ready=ready,
        make_batches=parts.make_batches,
        build_model=parts.build_model,
        variants=variants(model),
        logits=_logits,
        make_optimizer=parts.make_optimizer,
        train_step=parts.train_step,
        make_histories=_histories,
        score=parts.score,
        rank=rank_targets,
        metrics=per_user_metrics,
        evaluate=evaluate,
        train=train_subject,
    )
    return with_objective(subject, parts.objective(subject.prepared().data))


def with_objective(subject: Subject, objective: Any) -> Subject:
    """Return the subject trained by another objective of `tasks.training.objective`."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        hidden, _ = model.encode(batch.item_ids, mask=batch.mask, times=batch.times)
        return objective(model, hidden, batch)

    def criterion(logits: Tensor, batch: Batch) -> Tensor:
        # Padding's -inf takes no part in any objective, but would turn 0 x -inf into NaN.
        scores = torch.cat([torch.zeros_like(logits[..., :1]), logits[..., 1:]], dim=-1)
        return objective(_GivenScores(logits.shape[-1]), scores, batch)

    sample = None
    if isinstance(objective, SampledObjective):

        def sample(prepared: PreparedLog, batch: Batch) -> Draws:
            drawn = objective.sampler.draw(batch.users, batch.seed)
            return Draws(drawn.item_ids, drawn.log_q, drawn.is_positive)

    return subject.replace(loss=loss, criterion=criterion, sample_negatives=sample)


class _GivenScores(nn.Module):
    """Stands where an objective expects a model whose hidden states are the scores already."""

    normalize = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def head(self, hidden: Tensor) -> Tensor:
        return hidden

    def score_items(self, hidden: Tensor, item_ids: Tensor) -> Tensor:
        index = item_ids if item_ids.dim() == hidden.dim() else item_ids.expand(len(hidden), -1)
        return hidden.gather(-1, index)

    def item_vectors(self) -> Tensor:
        return torch.eye(self.width)


class _Parts:
    """Parts that need the settings; a bound method per part."""

    def __init__(self, spec: NeuralModel, shared: dict[str, Any], section: dict[str, Any]) -> None:
        self.spec, self.shared, self.section = spec, shared, section
        names = ("max_epochs", "patience", "warmup_steps", "schedule", "final_learning_rate")
        self.plan = TrainingPlan(
            learning_rate=section["learning_rate"],
            weight_decay=section["weight_decay"],
            max_grad_norm=shared["max_grad_norm"],
            **{name: shared[name] for name in names},
        )

    def build_model(self, num_items: int, seed: int, **settings: Any) -> nn.Module:
        max_seq_len = settings.pop("max_seq_len", self.shared["max_seq_len"])
        rung = settings.pop("rung", "full")
        section = {**self.section, **settings}
        model = self.spec.build(num_items, section, max_seq_len=max_seq_len, seed=seed).model
        return model if rung == "full" else strip(model, rung, seed)

    def make_batches(self, prepared: PreparedLog, seed: int, epoch: int) -> Iterator[Batch]:
        train = prepared.data.train
        source = WindowBatches(
            train.items,
            train.offsets,
            max_seq_len=self.shared["max_seq_len"],
            batch_size=self.shared["batch_size"],
            seed=seed,
            times=train.times if self.section.get("time_gaps") else None,
        )
        for batch in source.epoch(epoch):
            yield Batch(
                batch.item_ids, batch.targets, batch.mask, batch.times, batch.users, batch.seed
            )

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_adamw(
            model,
            learning_rate=self.plan.learning_rate,
            weight_decay=self.plan.weight_decay,
            decay_embeddings=self.plan.decay_embeddings,
        )

    def train_step(
        self, loss: Any, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
    ) -> Tensor:
        return train_step(_Deferred(model, loss), _deferred, batch, optimizer, self.plan).loss

    def score(self, model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        given = NeuralRecommender(self.spec.name, model, self.section, self.shared["max_seq_len"])
        return given.score(item_ids, lengths, times)

    def objective(self, data: PreparedData) -> Any:
        return build_objective(data, self.shared, CPU)


class _Deferred:
    """A model for `train_step` that leaves the forward pass to the subject's own loss."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        self.model, self.loss = model, loss
        self.train, self.parameters = model.train, model.parameters

    def encode(self, item_ids: Tensor, **_: Any) -> tuple[None, None]:
        return None, None


def _deferred(model: _Deferred, hidden: None, batch: Batch) -> Tensor:
    return model.loss(model.model, batch)


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch.item_ids, mask=batch.mask, times=batch.times)


def _histories(
    data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
) -> Histories:
    return data.histories(split, index, max_len)


class _ThroughSubject:
    """Prepared data whose histories are made by the subject."""

    def __init__(self, subject: Subject) -> None:
        self.data, self.subject = subject.prepared().data, subject
        self.num_items, self.seen_items = self.data.num_items, self.data.seen_items

    def histories(self, split: EvaluationSplit, index: np.ndarray, max_len: int) -> Histories:
        return self.subject.make_histories(self.data, split, index, max_len)


def evaluate(subject: Subject, model: nn.Module, split_name: str) -> dict[str, float]:
    """Return mean metrics of a split by the pipeline's evaluation, or by exchanged parts of it."""
    data = _ThroughSubject(subject)
    split = getattr(data.data, split_name)
    max_len, cutoffs = subject.declared.max_seq_len, subject.declared.cutoffs
    score = partial(subject.score, model)
    if subject.rank is rank_targets and subject.metrics is per_user_metrics:
        ranks = rank_split(score, data, split, max_len=max_len).ranks
        means = mean_metrics(ranks, cutoffs)
    else:
        ranks = _ranks(subject, data, split, max_len, score)
        values = subject.metrics(ranks, cutoffs)
        means = {name: float(np.mean(value)) for name, value in values.items()}
    return {f"{split_name}/{name}": value for name, value in means.items()}


def _ranks(
    subject: Subject, data: _ThroughSubject, split: EvaluationSplit, max_len: int, score: Any
) -> np.ndarray:
    found = []
    for start in range(0, len(split), EVALUATION_ROWS):
        index = np.arange(start, min(start + EVALUATION_ROWS, len(split)))
        histories = data.histories(split, index, max_len)
        scores = score(*(torch.as_tensor(part) for part in histories))
        targets = torch.as_tensor(np.array(split.targets[index], dtype=np.int64))
        found.append(np.asarray(subject.rank(scores, targets)))
    return np.concatenate(found)
