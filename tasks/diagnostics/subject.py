"""The program under diagnosis as one object of exchangeable parts.

Everything the questions look at is a field here, and a field is the only thing a planted fault may
exchange. The pipeline builds a subject of its own code, a user builds one around a module of
theirs, the fault benchmark takes the pipeline's and replaces one part.

Parts take what they need as arguments, so a replaced part reaches everything downstream: changed
preparation changes batches, histories and scores alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PreparedData
from tasks.diagnostics.declared import Declared


@dataclass(frozen=True)
class RawLog:
    """The log as it was read, before any preparation; the position is an event's identity.

    Attributes:
        user: (N,) raw user ids, any dtype that compares.
        item: (N,) raw item ids.
        time: (N,) int64, microseconds since the epoch.
        rating: (N,) float64, or None where the log has none.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    rating: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of events."""
        return len(self.user)

    def keep(self, rows: np.ndarray) -> RawLog:
        """Return the chosen events, in the order given (bool mask or indices)."""
        rating = None if self.rating is None else self.rating[rows]
        return RawLog(self.user[rows], self.item[rows], self.time[rows], rating)


@dataclass(frozen=True)
class PreparedLog:
    """What preparation made of a log.

    Attributes:
        data: Packed sequences and evaluation examples.
        item_labels: (num_items + 1,) raw id of each encoded item; entry 0 is padding's and unused.
        user_labels: (num_users,) raw id of each training sequence.
    """

    data: PreparedData
    item_labels: np.ndarray
    user_labels: np.ndarray


class Batch(NamedTuple):
    """Tensors of one optimiser step as they are handed to the model.

    Attributes:
        item_ids: int64 (B, S), 0 where padded.
        targets: int64 (B, S), the item to predict after each position; 0 where nothing is asked.
        mask: bool (B, S), True where `item_ids` is a real event.
        times: int64 (B, S) microseconds, or None.
        users: int64 (B,), index of the training sequence each row was cut from, or None.
        seed: Seed of the batch's own random numbers (negatives).
    """

    item_ids: Tensor
    targets: Tensor
    mask: Tensor
    times: Tensor | None = None
    users: Tensor | None = None
    seed: int = 0

    def rows(self, index: Any) -> Batch:
        """Return the chosen rows (slice, mask or indices)."""
        times = None if self.times is None else self.times[index]
        users = None if self.users is None else self.users[index]
        return Batch(
            self.item_ids[index], self.targets[index], self.mask[index], times, users, self.seed
        )

    def columns(self, index: slice) -> Batch:
        """Return the chosen positions of every row."""
        times = None if self.times is None else self.times[:, index]
        return Batch(
            self.item_ids[:, index],
            self.targets[:, index],
            self.mask[:, index],
            times,
            self.users,
            self.seed,
        )

    def with_items(self, item_ids: Tensor) -> Batch:
        """Return the batch with other inputs."""
        return self._replace(item_ids=item_ids)

    @property
    def lengths(self) -> Tensor:
        """Real events per row, int64 (B,)."""
        return self.mask.sum(dim=1)

    @property
    def asked(self) -> Tensor:
        """Positions the loss is about, bool (B, S)."""
        return self.targets > 0

    @property
    def positions(self) -> Tensor:
        """Flat indices (row * S + column) of the positions asked, int64 (T,), row by row."""
        return self.asked.flatten().nonzero().flatten()

    @property
    def num_targets(self) -> int:
        """Number of positions asked."""
        return int(self.asked.sum())


class Draws(NamedTuple):
    """Negatives of one batch.

    Attributes:
        item_ids: int64 (G, K); G is B where each row has a set of its own, 1 where all share one.
        log_q: float (G, K), ln of the probability with which each was drawn.
        is_positive: bool (B, K), left out as the user's own item; None where nothing is.
    """

    item_ids: Tensor
    log_q: Tensor
    is_positive: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """What a finished training left.

    Attributes:
        model: Module with the weights that are evaluated.
        epochs: One object per epoch, as in `epochs.jsonl`.
        steps: One object per recorded step, as in `steps.jsonl`.
        record: As in `record.json`.
        metrics: Metrics as the pipeline reported them, such as `test/ndcg_at_10`.
        ranks: int64 (E,) of the test split as the pipeline stored them, or None.
        last_model: Module with the weights of the last step, or None where they were not kept.
    """

    model: nn.Module
    epochs: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ranks: np.ndarray | None = None
    last_model: nn.Module | None = None


Prepare = Callable[[RawLog], PreparedLog]
MakeBatches = Callable[[PreparedLog, int, int], Iterable[Batch]]
BuildModel = Callable[..., nn.Module]
ModelOnBatch = Callable[[nn.Module, Batch], Tensor]
TrainStep = Callable[[ModelOnBatch, nn.Module, torch.optim.Optimizer, Batch], Tensor]
MakeHistories = Callable[[PreparedData, EvaluationSplit, np.ndarray, int], Histories]
Score = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
SampleNegatives = Callable[[PreparedLog, Batch], Draws]
Train = Callable[["Subject", int], Trained]


@dataclass(frozen=True)
class Subject:
    """One program under diagnosis. A part that is None is not offered.

    Attributes:
        name: For people.
        declared: What the program says it does; compared with what it does.
        log: The raw log.
        prepare: Log -> prepared log.
        ready: Prepared log where it exists already; otherwise `prepare(log)` is run once.
        make_batches: (prepared, seed, epoch) -> the batches of that epoch, counted from 0.
        build_model: (num_items, seed, **overrides) -> new module. Builders of xLSTM models take the
            override `rung`, a rung of the strip-down ladder.
        variants: Overrides of `build_model` that have to build and run too, such as
            `{"embedding_dim": 7, "num_heads": 1}`.
        logits: (model, batch) -> float (B, S, V), score of every item after every position.
        criterion: (logits, batch) -> scalar loss.
        loss: (model, batch) -> the scalar loss that training differentiates.
        make_optimizer: model -> optimiser.
        train_step: (loss, model, optimizer, batch) -> loss; one whole step as training does it,
            with the subject's own `loss`.
        sample_negatives: (prepared, batch) -> the negatives the loss uses for this batch.
        make_histories: (data, split, index, max_len) -> right-padded histories for scoring.
        score: (model, item_ids (B, S), lengths (B,), times (B, S)) -> (B, V) as at evaluation.
        rank: (scores (B, V), targets (B,)) -> int64 ranks (B,), 1-based.
        metrics: (ranks, cutoffs) -> name -> values per user.
        evaluate: (subject, model, split name) -> metrics as the pipeline reports them.
        train: (subject, seed) -> a whole training; used by the deep mode only.
        trained: A finished training of the model under test.
        failure: How its training failed, "" where it did not.
        peers: Other models trained on the same data, by name, such as popularity, gru, lstm.
    """

    name: str
    declared: Declared = field(default_factory=Declared)
    log: RawLog | None = None
    prepare: Prepare | None = None
    ready: PreparedLog | None = None
    make_batches: MakeBatches | None = None
    build_model: BuildModel | None = None
    variants: tuple[Mapping[str, Any], ...] = ()
    logits: ModelOnBatch | None = None
    criterion: Callable[[Tensor, Batch], Tensor] | None = None
    loss: ModelOnBatch | None = None
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    train_step: TrainStep | None = None
    sample_negatives: SampleNegatives | None = None
    make_histories: MakeHistories | None = None
    score: Score | None = None
    rank: Callable[[Tensor, Tensor], Tensor] | None = None
    metrics: Callable[[np.ndarray, tuple[int, ...]], dict[str, np.ndarray]] | None = None
    evaluate: Callable[[Subject, nn.Module, str], dict[str, float]] | None = None
    train: Train | None = None
    trained: Trained | None = None
    failure: str = ""
    peers: Mapping[str, Trained] = field(default_factory=dict)

    def prepared(self) -> PreparedLog:
        """Return what preparation makes of the log: `ready`, or a new preparation.

        Raises:
            ValueError: There is neither a prepared log nor a log and a way to prepare it.
        """
        if self.ready is not None:
            return self.ready
        if self.prepare is None or self.log is None:
            raise ValueError(
                f"{self.name} has no prepared data: give `ready`, or `log` and `prepare`."
            )
        return self.prepare(self.log)

    def replace(self, **parts: Any) -> Subject:
        """Return a copy with other parts.

        Whatever was derived from a replaced part is dropped, so that it is derived again:
        `ready` when `log` or `prepare` changes, `trained` and `failure` when anything else does.

        Raises:
            TypeError: There is no such part.
        """
        unknown = sorted(set(parts) - {item.name for item in dataclasses.fields(self)})
        if unknown:
            known = ", ".join(item.name for item in dataclasses.fields(self))
            raise TypeError(f"{unknown} are no parts of a subject; expected some of {known}.")
        if {"log", "prepare"} & set(parts):
            parts.setdefault("ready", None)
        if set(parts) - {"name", "peers"}:
            parts.setdefault("trained", None)
            parts.setdefault("failure", "")
        return dataclasses.replace(self, **parts)
