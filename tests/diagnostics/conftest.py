"""A small healthy program of its own, against which questions and faults are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.diagnostics.declared import Declared
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.subject import Batch, Draws, PreparedLog, RawLog, Subject

MAX_SEQ_LEN = 12


class ToyRecommender(nn.Module):
    """Embedding, GRU, linear head; scores of every item after every position."""

    def __init__(self, num_items: int, embedding_dim: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_items + 1, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.core = nn.GRU(embedding_dim, embedding_dim, batch_first=True)
        self.head = nn.Linear(embedding_dim, num_items + 1)

    def forward(self, item_ids: Tensor) -> Tensor:
        hidden, _ = self.core(self.dropout(self.embedding(item_ids)))
        return self.head(hidden)


def make_log(num_users: int = 60, num_items: int = 30, seed: int = 0) -> RawLog:
    """Draw a first-order log in shuffled row order, with a few equal times and repeats."""
    rng = np.random.default_rng(seed)
    users, items, times = [], [], []
    for user in range(num_users):
        item = int(rng.integers(num_items))
        for _ in range(int(rng.integers(4, 20))):
            follows = rng.random() < 0.7
            item = (item * 7 + 3) % num_items if follows else int(rng.integers(num_items))
            users.append(f"u{user}")
            items.append(f"i{item}")
            times.append(len(users) // 2 * 60_000_000)
    order = rng.permutation(len(users))
    # Rows keep the order of equal times, as a log written by a clock does.
    order = order[np.argsort(np.array(times)[order] % 7, kind="stable")]
    return RawLog(np.array(users)[order], np.array(items)[order], np.array(times)[order])


def toy_prepare(log: RawLog) -> PreparedLog:
    """Sort stably by user and time, encode from 1, hold out each user's last two events."""
    user_labels, user = np.unique(log.user, return_inverse=True)
    labels, item = np.unique(log.item, return_inverse=True)
    order = np.lexsort((np.arange(len(log)), log.time, user))
    sequences = [order[user[order] == u] for u in range(len(user_labels))]
    empty = [np.zeros(0, dtype=np.int64)] * len(sequences)

    def pack(parts: list[np.ndarray]) -> PackedSequences:
        rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return PackedSequences((item[rows] + 1).astype(np.int32), log.time[rows], rows, offsets)

    def split(name: str, place: int, extra: list[np.ndarray]) -> EvaluationSplit:
        rows = np.array([sequence[place] for sequence in sequences])
        return EvaluationSplit(
            name=name,
            users=np.arange(len(sequences)),
            targets=(item[rows] + 1).astype(np.int64),
            target_times=log.time[rows],
            target_rows=rows,
            extra=pack(extra),
        )

    data = PreparedData(
        folder=Path(),
        num_users=len(user_labels),
        num_items=len(labels),
        manifest={},
        train=pack([sequence[:-2] for sequence in sequences]),
        val=split("val", -2, empty),
        test=split("test", -1, [sequence[-2:-1] for sequence in sequences]),
    )
    return PreparedLog(data, np.concatenate([["<padding>"], labels]), user_labels)


def toy_batches(prepared: PreparedLog, seed: int, epoch: int = 0) -> Iterator[Batch]:
    """Yield windows of at most MAX_SEQ_LEN pairs, right-padded, 16 rows a batch."""
    train = prepared.data.train
    order = np.random.default_rng([seed, epoch]).permutation(len(train))
    order = [u for u in order if train.lengths[u] >= 2]
    for start in range(0, len(order), 16):
        users = order[start : start + 16]
        rows = [np.asarray(train.sequence(u))[-MAX_SEQ_LEN - 1 :] for u in users]
        width = max(len(row) for row in rows) - 1
        item_ids = torch.zeros(len(rows), width, dtype=torch.int64)
        targets = torch.zeros_like(item_ids)
        for number, row in enumerate(rows):
            item_ids[number, : len(row) - 1] = torch.as_tensor(row[:-1].astype(np.int64))
            targets[number, : len(row) - 1] = torch.as_tensor(row[1:].astype(np.int64))
        seed_of_batch = 100_000 * epoch + start
        yield Batch(item_ids, targets, item_ids > 0, None, torch.tensor(users), seed_of_batch)


def toy_logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch.item_ids)


def toy_criterion(logits: Tensor, batch: Batch) -> Tensor:
    asked = batch.asked
    return F.cross_entropy(logits[asked][:, 1:], batch.targets[asked] - 1)


def toy_loss(model: nn.Module, batch: Batch) -> Tensor:
    return toy_criterion(toy_logits(model, batch), batch)


def toy_build(num_items: int, seed: int, embedding_dim: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return ToyRecommender(num_items, embedding_dim)


def toy_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)


def toy_step(loss, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
    model.train()
    optimizer.zero_grad()
    value = loss(model, batch)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return value.detach()


def toy_draws(prepared: PreparedLog, batch: Batch) -> Draws:
    num_items = prepared.data.num_items
    generator = torch.Generator().manual_seed(batch.seed)
    items = torch.randint(1, num_items + 1, (len(batch.item_ids), 5), generator=generator)
    return Draws(items, torch.full(items.shape, -float(np.log(num_items))))


def toy_score(model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
    with torch.no_grad():
        scores = model.eval()(item_ids)[torch.arange(len(lengths)), lengths - 1]
    scores[:, 0] = -torch.inf
    return scores


def toy_rank(scores: Tensor, targets: Tensor) -> Tensor:
    own = scores.gather(1, targets.clamp(min=0)[:, None])
    return (scores[:, 1:] >= own).sum(dim=1)


def toy_metrics(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    hits = {k: (ranks <= k).astype(float) for k in cutoffs}
    return {f"hit_rate_at_{k}": hit for k, hit in hits.items()} | {
        f"ndcg_at_{k}": hit / np.log2(ranks + 1) for k, hit in hits.items()
    }


def toy_histories(data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int):
    return data.histories(split, index, max_len)


def toy_evaluate(subject: Subject, model: nn.Module, split_name: str) -> dict[str, float]:
    data = subject.ready.data
    split = getattr(data, split_name)
    index = np.arange(len(split))
    histories = subject.make_histories(data, split, index, subject.declared.max_seq_len)
    arrays = [torch.as_tensor(part) for part in histories]
    scores = subject.score(model, *arrays)
    ranks = subject.rank(scores, torch.as_tensor(split.targets)).numpy()
    values = subject.metrics(ranks, subject.declared.cutoffs)
    return {f"{split_name}/{name}": float(value.mean()) for name, value in values.items()}


def make_toy(**parts: object) -> Subject:
    """Build the healthy program, with some parts exchanged."""
    declared = Declared(
        max_seq_len=MAX_SEQ_LEN,
        dropout=0.2,
        weight_decay=0.01,
        learning_rate=0.01,
        max_grad_norm=1.0,
        batch_size=16,
        max_epochs=3,
    )
    subject = Subject(
        name="toy",
        declared=declared,
        log=make_log(),
        prepare=toy_prepare,
        make_batches=toy_batches,
        build_model=toy_build,
        variants=tuple({"embedding_dim": size} for size in (1, 2, 7, 16)),
        logits=toy_logits,
        criterion=toy_criterion,
        loss=toy_loss,
        make_optimizer=toy_optimizer,
        train_step=toy_step,
        sample_negatives=toy_draws,
        make_histories=toy_histories,
        score=toy_score,
        rank=toy_rank,
        metrics=toy_metrics,
        evaluate=toy_evaluate,
    )
    return subject.replace(**parts) if parts else subject


@pytest.fixture(scope="session")
def toy() -> Callable[..., Subject]:
    """`toy(loss=...)`: the healthy program with some parts exchanged."""
    return make_toy


@pytest.fixture(scope="session")
def healthy() -> Probe:
    """A probe of the healthy program, shared: measurements are cached and change nothing."""
    return Probe(make_toy())


@pytest.fixture(scope="session")
def toy_model_class() -> type[nn.Module]:
    """The healthy program's module class, to derive broken ones from."""
    return ToyRecommender
