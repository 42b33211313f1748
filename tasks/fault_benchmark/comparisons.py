"""What each part of a program gives on the data and weights of the clean one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject

TOLERANCE = 1e-5
"""Relative difference above which two results count as different."""

STEPS = 6
"""Training steps that are compared: more than a schedule needs to show."""


def equal(expected: Any, found: Any) -> bool:
    """Return whether two nested results agree, numbers up to `TOLERANCE` of the largest one.

    >>> equal([1.0, "a"], [1.0 + 1e-7, "a"]), equal({"x": 1.0}, {"x": 1.1})
    (True, False)
    """
    if isinstance(expected, dict):
        return expected.keys() == found.keys() and all(
            equal(value, found[name]) for name, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return len(expected) == len(found) and all(
            equal(a, b) for a, b in zip(expected, found, strict=True)
        )
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc" or b.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return True
    finite = np.isfinite(a) & np.isfinite(b)
    if (~finite & ~same).any():
        return False
    scale = float(np.abs(a[finite]).max()) or 1.0
    return float(np.abs(a[finite] - b[finite]).max()) <= TOLERANCE * scale


def _data(subject: Subject, clean: Subject, seed: int) -> Any:
    prepared: PreparedLog = subject.prepare(clean.log)
    data, labels = prepared.data, prepared.item_labels

    def sequences(packed: Any) -> list[np.ndarray]:
        return [labels[packed.items], packed.times, packed.rows, packed.offsets]

    def split(held_out: Any) -> list[Any]:
        names = np.where(
            held_out.targets > 0, labels[held_out.targets], held_out.targets.astype(str)
        )
        return [names, held_out.users, held_out.target_times, sequences(held_out.extra)]

    return [sequences(data.train), split(data.val), split(data.test), prepared.user_labels.tolist()]


def _without_held_out(subject: Subject, clean: Subject, seed: int) -> Any:
    """Whether training stays as it is when other items stand in the held-out rows."""
    log, data = clean.log, clean.ready.data
    item = log.item.copy()
    item[np.concatenate([data.val.target_rows, data.test.target_rows])] = item[data.train.rows[0]]
    before = subject.prepare(log).data.train
    after = subject.prepare(RawLog(log.user, item, log.time, log.rating)).data.train
    return [np.array_equal(before.items, after.items), np.array_equal(before.rows, after.rows)]


def _log(subject: Subject, clean: Subject, seed: int) -> Any:
    return [subject.log.user, subject.log.item, subject.log.time]


def _batches(subject: Subject, clean: Subject, seed: int) -> Any:
    batches = list(subject.make_batches(clean.ready, seed, 0))
    return [[b.item_ids, b.targets, b.mask, [] if b.times is None else b.times] for b in batches]


def _some_batches(clean: Subject, seed: int) -> list[Batch]:
    return list(itertools.islice(clean.make_batches(clean.ready, seed, 0), 3))


def _with_clean_weights(subject: Subject, clean: Subject, seed: int) -> nn.Module:
    """A model of the subject with shaken weights that depend on the clean program alone."""
    num_items = clean.ready.data.num_items
    model = subject.build_model(num_items, seed)
    own = clean.build_model(num_items, seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, value in own.items():
        if value.is_floating_point() and torch.isfinite(value).all():
            noise = torch.randn(value.shape, generator=generator) * 0.1
            own[name] = value + noise * (torch.arange(len(value)) > 0).reshape(
                (-1,) + (1,) * (value.dim() - 1)
            )
    model.load_state_dict(own, strict=False)
    # In double precision, where the order of operations shows nowhere, not even after Adam.
    return model.double().eval()


def _logits(subject: Subject, clean: Subject, seed: int) -> Any:
    model = _with_clean_weights(subject, clean, seed)
    found = []
    with torch.no_grad():
        for batch in _some_batches(clean, seed):
            logits = subject.logits(model, batch)[..., 1:]
            found.append(logits[batch.mask].numpy())
    return found


def _noisy_logits(subject: Subject, clean: Subject, seed: int) -> Any:
    model = _with_clean_weights(subject, clean, seed).train()
    found = []
    for batch in _some_batches(clean, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(subject.logits(model, batch)[..., 1:][batch.mask].numpy())
    return found


def _sizes(subject: Subject, clean: Subject, seed: int) -> Any:
    batch = _some_batches(clean, seed)[0]
    shapes = []
    for settings in clean.variants:
        model = subject.build_model(clean.ready.data.num_items, seed, **settings)
        with torch.no_grad():
            shapes.append(list(subject.logits(model, batch).shape))
    return shapes


def _loss(subject: Subject, clean: Subject, seed: int) -> Any:
    """Loss and gradients, on the faulty model: also of parameters that take none."""
    found = []
    for batch in _some_batches(clean, seed)[:2]:
        model = _with_clean_weights(subject, clean, seed)
        value = subject.loss(model, batch)
        value.backward()
        found.append([value.detach().numpy(), _gradients(model)])
    return found


def _gradients(model: nn.Module) -> dict[str, Any]:
    return {
        name: np.zeros(0) if p.grad is None else p.grad.numpy()
        for name, p in model.named_parameters()
    }


def _steps(subject: Subject, clean: Subject, seed: int) -> Any:
    model = _with_clean_weights(subject, clean, seed)
    optimizer = subject.make_optimizer(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = _some_batches(clean, seed)
    for step in range(STEPS):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        subject.train_step(subject.loss, model, optimizer, batches[step % len(batches)])
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def _negatives(subject: Subject, clean: Subject, seed: int) -> Any:
    if clean.sample_negatives is None:
        return []
    draws = [subject.sample_negatives(clean.ready, batch) for batch in _some_batches(clean, seed)]
    return [[d.item_ids, d.log_q, [] if d.is_positive is None else d.is_positive] for d in draws]


def _histories(subject: Subject, clean: Subject, seed: int) -> Any:
    data = clean.ready.data
    index = np.arange(len(data.test))
    return list(subject.make_histories(data, data.test, index, clean.declared.max_seq_len))


def _arguments(clean: Subject) -> list[Tensor]:
    data = clean.ready.data
    index = np.arange(len(data.test))
    given = clean.make_histories(data, data.test, index, clean.declared.max_seq_len)
    return [torch.as_tensor(part) for part in given]


def _scores(subject: Subject, clean: Subject, seed: int) -> Any:
    model = _with_clean_weights(clean, clean, seed)
    arguments = _arguments(clean)
    half = [part[: len(part) // 2] for part in arguments]
    # Twice: what a call leaves behind shows in the second.
    return [subject.score(model, *given).detach().numpy() for given in (half, half, arguments)]


def _ranks(subject: Subject, clean: Subject, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    num_items = clean.ready.data.num_items
    scores = torch.randn(64, num_items + 1, generator=generator).round(decimals=1)
    targets = torch.randint(1, num_items + 1, (64,), generator=generator)
    targets[0] = -1
    return [np.asarray(subject.rank(scores, targets)) for _ in range(2)]


def _metrics(subject: Subject, clean: Subject, seed: int) -> Any:
    ranks = np.random.default_rng(seed).integers(1, 30, size=500)
    values = subject.metrics(ranks, clean.declared.cutoffs)
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


def _evaluation(subject: Subject, clean: Subject, seed: int) -> Any:
    model = _with_clean_weights(clean, clean, seed)
    return subject.evaluate(clean, model, "test")


COMPARISONS: dict[str, Callable[[Subject, Subject, int], Any]] = {
    "log": _log,
    "prepare": _data,
    "prepare without held-out items": _without_held_out,
    "make_batches": _batches,
    "build_model": _logits,
    "build_model in training": _noisy_logits,
    "variants": _sizes,
    "loss": _loss,
    "train_step": _steps,
    "sample_negatives": _negatives,
    "make_histories": _histories,
    "score": _scores,
    "rank": _ranks,
    "metrics": _metrics,
    "evaluate": _evaluation,
}
"""Part -> what it gives, asked of the faulty program on data and weights of the clean one."""
