"""A subject around a torch module of the user's own; what isn't given is a plain standard part."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PreparedData
from tasks.data.recipe import Recipe
from tasks.diagnostics.adapt import Adapter, as_builder
from tasks.diagnostics.declared import Declared
from tasks.diagnostics.layout import Layout
from tasks.diagnostics.pipeline_log import preparer
from tasks.diagnostics.pipeline_subject import evaluate
from tasks.diagnostics.pipeline_training import train_subject
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.evaluation.metrics import per_user_metrics
from tasks.evaluation.ranking import rank_targets
from tasks.training.batches import WindowBatches

UNSTATED = frozenset({"dropout", "weight_decay", "max_grad_norm", "residual"})
"""Settings of the user's program that nothing is known of unless they are declared."""


@dataclass(frozen=True)
class OwnProgram:
    """What a user may bring.

    Attributes:
        model: A module, or a function that builds one (of num_items, and seed if it takes one).
        loss: (scores (T, V), targets (T,)) -> scalar, over positions that have a target.
        batch_loss: (module, batch) -> scalar, where the module makes its loss itself.
        optimizer: module -> optimiser.
        train_step: (loss, module, optimizer, batch) -> loss.
        batches: (prepared, seed, epoch) -> batches.
        sample_negatives: (prepared, batch) -> draws.
        score: (module, item_ids (B, S) right-padded, lengths (B,), times) -> scores (B, V) as they
            are ranked.
        rank: (scores, targets) -> ranks.
        metrics: (ranks, cutoffs) -> values per user.
        evaluate: (subject, module, split name) -> means, such as `test/ndcg_at_10`.
        call: (module, batch) -> anything that holds scores, where names do not tell.
        head: (module, hidden) -> scores, where the module returns hidden states.
        batch_first: The module takes (B, S), not (S, B).
        padding_side: Side the module wants padding on.
        padding_id: Id the module takes for padding.
        first_item_id: Id the module has for the first item.
        declared: What the program says of itself, by fields of `Declared`.
    """

    model: nn.Module | Callable[..., nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    batch_loss: Callable[[nn.Module, Batch], Tensor] | None = None
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    train_step: Callable[..., Tensor] | None = None
    batches: Callable[..., Any] | None = None
    sample_negatives: Callable[..., Any] | None = None
    score: Callable[..., Tensor] | None = None
    rank: Callable[[Tensor, Tensor], Tensor] | None = None
    metrics: Callable[..., dict[str, np.ndarray]] | None = None
    evaluate: Callable[..., dict[str, float]] | None = None
    call: Callable[[nn.Module, Batch], Any] | None = None
    head: Callable[[nn.Module, Tensor], Tensor] | None = None
    batch_first: bool = True
    padding_side: Literal["right", "left"] = "right"
    padding_id: int = 0
    first_item_id: int = 1
    declared: Mapping[str, Any] = field(default_factory=dict)

    def layout(self, num_items: int) -> Layout:
        """Return how the module wants its histories."""
        return Layout(num_items, self.padding_side, self.padding_id, self.first_item_id)


def own_subject(
    program: OwnProgram,
    *,
    log: RawLog | None = None,
    ready: PreparedLog | None = None,
    recipe: Recipe | None = None,
    declared: Mapping[str, Any] | None = None,
) -> Subject:
    """Return a subject around the user's parts.

    Args:
        program: What the user brings.
        log: A raw log, prepared by the pipeline under `recipe`.
        ready: The user's own prepared data instead.
        recipe: Leave-one-out by default.
        declared: What the program says of itself, as fields of `Declared`; without it nothing is
            known of dropout, weight decay, clipping and residuals.

    Raises:
        ValueError: Neither log nor prepared data, or an unknown declaration.
    """
    if log is None and ready is None:
        raise ValueError("neither log nor ready is given; expected at least one of them.")
    recipe = recipe or Recipe()
    prepare = preparer(recipe)
    ready = ready if ready is not None else prepare(log)
    said = _declare(program, recipe, {**program.declared, **(declared or {})})
    layout = program.layout(ready.data.num_items)
    adapter = Adapter(ready.data.num_items, program.batch_first, program.call, program.head, layout)
    build = as_builder(program.model)
    criterion = _criterion(program.loss)
    return Subject(
        name=_name(program.model),
        declared=said,
        log=log,
        prepare=prepare if log is not None else None,
        ready=ready,
        make_batches=program.batches or _Windows(said),
        build_model=build,
        logits=adapter.logits,
        criterion=None if program.batch_loss and not program.loss else criterion,
        loss=program.batch_loss
        or (lambda model, batch: criterion(adapter.logits(model, batch), batch)),
        make_optimizer=program.optimizer or _Adam(said),
        train_step=program.train_step or _Step(said),
        sample_negatives=program.sample_negatives,
        make_histories=_histories,
        score=program.score or _Scoring(adapter),
        rank=program.rank or rank_targets,
        metrics=program.metrics or per_user_metrics,
        evaluate=program.evaluate or evaluate,
        train=train_subject,
    )


def load_builder(path: str) -> Callable[..., nn.Module] | nn.Module | OwnProgram:
    """Import `package.module:name`: a module, a function that builds one, or an `OwnProgram`.

    Raises:
        ValueError: The path has another form, or names nothing.

    >>> load_builder("torch.nn:Identity")
    <class 'torch.nn.modules.linear.Identity'>
    """
    module_name, separator, name = path.partition(":")
    if not separator or not name:
        raise ValueError(
            f"model is {path!r}; expected package.module:name, such as mine.model:build."
        )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model {path!r} can't be imported: {error}. Check the name.") from error
    if not callable(found) and not isinstance(found, OwnProgram):
        raise ValueError(
            f"model {path!r} is a {type(found).__name__}; expected a function, module or "
            "OwnProgram."
        )
    return found


def _declare(program: OwnProgram, recipe: Recipe, said: dict[str, Any]) -> Declared:
    names = {item.name for item in dataclasses.fields(Declared)}
    unknown = sorted(set(said) - names)
    if unknown:
        raise ValueError(
            f"{unknown} can't be declared; expected some of {', '.join(sorted(names))}."
        )
    usual = {
        "loss": "other" if program.loss or program.batch_loss else "cross_entropy",
        "padding_row": program.padding_id,
        "first_item_row": program.first_item_id,
        "split": recipe.split,
        "corpus": recipe.corpus,
        "vocabulary": recipe.vocabulary,
        "repeats": recipe.repeats,
        "rating_threshold": recipe.rating_threshold,
        "duplicates": recipe.duplicates,
        "min_user_events": recipe.min_user_events,
        "min_item_events": recipe.min_item_events,
        "max_epochs": 10,
    }
    silent = UNSTATED - set(said)
    if program.batches is not None:
        silent |= {"batch_size"} - set(said)
    if program.optimizer is None:
        silent -= {"weight_decay"}
    if program.train_step is None:
        silent -= {"max_grad_norm"}
    return Declared(**{**usual, **said, "unknown": frozenset(silent)})


def _criterion(
    loss: Callable[[Tensor, Tensor], Tensor] | None,
) -> Callable[[Tensor, Batch], Tensor]:
    def usual(scores: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(scores[:, 1:], targets - 1)

    own = loss or usual

    def criterion(logits: Tensor, batch: Batch) -> Tensor:
        return own(logits[batch.asked], batch.targets[batch.asked])

    return criterion


@dataclass(frozen=True)
class _Windows:
    """The pipeline's batches."""

    declared: Declared

    def __call__(self, prepared: PreparedLog, seed: int, epoch: int):
        train = prepared.data.train
        source = WindowBatches(
            train.items,
            train.offsets,
            max_seq_len=self.declared.max_seq_len,
            batch_size=self.declared.batch_size,
            seed=seed,
            times=train.times,
        )
        for batch in source.epoch(epoch):
            yield Batch(
                batch.item_ids, batch.targets, batch.mask, batch.times, batch.users, batch.seed
            )


@dataclass(frozen=True)
class _Adam:
    """AdamW at the declared rate and decay, on every parameter."""

    declared: Declared

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            parameters, lr=self.declared.learning_rate, weight_decay=self.declared.weight_decay
        )


@dataclass(frozen=True)
class _Step:
    """A plain optimiser step, clipped if that is declared."""

    declared: Declared

    def __call__(
        self, loss: Any, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
    ) -> Tensor:
        model.train()
        torch.manual_seed(batch.seed)
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        if self.declared.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), self.declared.max_grad_norm)
        optimizer.step()
        return value.detach()


@dataclass(frozen=True)
class _Scoring:
    """Scores in eval mode, from padded histories."""

    adapter: Adapter

    def __call__(
        self, model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor
    ) -> Tensor:
        with torch.no_grad():
            return self.adapter.last_scores(model.eval(), item_ids, lengths, times).float()


def _histories(
    data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
) -> Histories:
    return data.histories(split, index, max_len)


def _name(model: Any) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", "own model") if not inspect.isclass(model) else model.__name__
