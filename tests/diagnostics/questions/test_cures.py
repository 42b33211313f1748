"""G17, G18, G20, X14, X18: what cures a training without skill, and batches as declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import cures
from tasks.diagnostics.measurements.cure_checks import Remedies
from tasks.diagnostics.measurements.cures import Cures, joined
from tasks.diagnostics.measurements.noise_scale import noise_scale
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    batch_and_length_suit,
    batch_stabilises_training,
    learning_rate_suits,
    learning_rate_suits_depth,
    loss_falls,
)
from tasks.diagnostics.subject import Batch, Subject
from tests.diagnostics.conftest import make_log
from tests.diagnostics.questions.conftest import train_toy

CHANGES = {
    "again": (loss_falls, "faulty", "learning_rate"),
    "longer": (batch_and_length_suit, "suspect", "batching"),
    "smaller_batches": (batch_stabilises_training, "faulty", "batching"),
    "larger_batches": (batch_stabilises_training, "faulty", "batching"),
    "other_rate": (learning_rate_suits, "faulty", "learning_rate"),
}


def tried(**shares: float) -> Cures:
    names = ("again", "longer", "smaller_batches", "larger_batches", "other_rate")
    return Cures(True, 0.0, *(shares.get(name) for name in names), best_rate=0.1, steps=100)


@pytest.fixture(scope="module")
def untaught(toy: Callable[..., Subject]) -> Subject:
    """The small program with a rate a thousandth of what it needs, and its training."""
    subject = toy(
        log=make_log(num_users=120),
        make_optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=1e-5),
    )
    return subject.replace(trained=train_toy(subject, 0, epochs=3), train=train_toy)


@pytest.mark.parametrize("change", CHANGES)
def test_a_cure_names_its_cause(change: str, healthy_trained: Probe) -> None:
    module, verdict, stage = CHANGES[change]
    evidence = module.measure(healthy_trained)
    limit = 0.25 if change == "longer" else 0.5
    if change == "longer":
        remedies = Remedies(tried(longer=0.5))
        cured = module.judge(dataclasses.replace(evidence, remedies=remedies), module.LIMITS)
        assert (cured.verdict, cured.stage) == ("faulty", stage)
    for share, expected in ((limit, None), (limit + 0.01, stage)):
        remedies = Remedies(tried(**{change: share}))
        found = module.judge(dataclasses.replace(evidence, remedies=remedies), module.LIMITS)
        assert found.stage == expected
        assert found.verdict == ("healthy" if expected is None else verdict), found.sentence


def test_a_rate_that_is_far_too_small_is_found_by_its_cure(
    untaught: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cures, "RATES", (1000.0,))
    monkeypatch.setattr(cures, "SEEDS", 1)
    steps = dataclasses.replace(untaught.declared, max_epochs=25)
    probe = Probe(dataclasses.replace(untaught, declared=steps), "deep")
    found = probe.evidence(cures.measure)
    assert found.symptom
    assert found.cured_by("other_rate")
    assert not found.cured_by("again")
    assert not found.cured_by("longer")
    for question in (learning_rate_suits.QUESTION, learning_rate_suits_depth.QUESTION):
        finding = answer(question, probe)
        assert (finding.verdict, finding.stage) == ("faulty", "learning_rate")
        assert "1000 times" in " ".join(finding.advice)


def test_nothing_is_tried_outside_the_deep_mode(untaught: Subject) -> None:
    finding = answer(batch_stabilises_training.QUESTION, Probe(untaught, "after_training"))
    open_checks = [check for check in finding.checks if check.missing]
    assert any("--deep" in check.missing for check in open_checks)
    assert finding.verdict == "healthy"


def test_nothing_is_tried_where_there_is_skill(healthy_trained: Probe) -> None:
    deep = Probe(healthy_trained.subject, "deep")
    found = deep.evidence(cures.measure)
    assert not found.symptom
    assert found.again is None


@pytest.mark.parametrize("rows", [1, 60])
def test_another_batch_size_than_declared_is_found(toy, rows: int) -> None:
    original = toy().make_batches

    def resized(prepared, seed, epoch):
        for batch in original(prepared, seed, epoch):
            for start in range(0, len(batch.item_ids), min(rows, 16)):
                yield batch.rows(slice(start, start + min(rows, 16)))

    def whole(prepared, seed, epoch):
        yield joined(list(original(prepared, seed, epoch)))

    probe = Probe(toy(make_batches=resized if rows == 1 else whole))
    finding = answer(batch_stabilises_training.QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("faulty", "batching")


def test_an_undeclared_batch_size_is_not_judged(toy) -> None:
    subject = toy()
    silent = dataclasses.replace(subject.declared, batch_size=7, unknown=frozenset({"batch_size"}))
    finding = answer(batch_stabilises_training.QUESTION, Probe(toy(declared=silent)))
    assert finding.verdict in ("healthy", "not_applicable")


def test_a_step_of_noise_is_suspect(healthy_trained: Probe) -> None:
    evidence = batch_stabilises_training.measure(healthy_trained)
    assert evidence.noise is not None
    size = evidence.typical_rows
    for low, verdict in ((99 * size, "healthy"), (100 * size, "suspect"), (np.inf, "healthy")):
        noise = dataclasses.replace(evidence.noise, low=float(low))
        changed = dataclasses.replace(evidence, noise=noise)
        found = batch_stabilises_training.judge(changed, batch_stabilises_training.LIMITS)
        assert found.verdict == verdict


def test_noise_scale_of_known_gradients() -> None:
    """Gradients g + e with |g|^2 = 1 and E|e|^2 = 4 per micro-batch of 5 windows: 20."""
    rng = np.random.default_rng(0)
    parts = np.zeros((400, 200))
    parts[:, 0] = 1.0
    parts += rng.normal(0, (4 / 200) ** 0.5, parts.shape)
    assert noise_scale(parts @ parts.T, np.arange(400), 5) == pytest.approx(20, rel=0.05)


def test_fewer_epochs_than_declared_are_suspect(healthy_trained: Probe) -> None:
    evidence = batch_and_length_suit.measure(healthy_trained)
    assert evidence.missing_epochs == 0
    short = dataclasses.replace(evidence, missing_epochs=1)
    found = batch_and_length_suit.judge(short, batch_and_length_suit.LIMITS)
    assert (found.verdict, found.stage) == ("suspect", "batching")


def batch(*rows: list[int], left: bool = False) -> Batch:
    width = max(map(len, rows))
    padded = [[0] * (width - len(r)) + r if left else r + [0] * (width - len(r)) for r in rows]
    ids = torch.tensor(padded)
    return Batch(ids, ids, ids > 0, ids * 10, torch.arange(len(rows)))


def test_joined_batches_keep_their_side_of_padding() -> None:
    right = joined([batch([1, 2, 3], [4]), batch([5])])
    assert right.item_ids.tolist() == [[1, 2, 3], [4, 0, 0], [5, 0, 0]]
    assert right.times is not None
    assert right.times[2].tolist() == [50, 0, 0]
    left = joined([batch([1, 2, 3], [4], left=True), batch([5])])
    assert left.item_ids.tolist() == [[1, 2, 3], [0, 0, 4], [0, 0, 5]]


def test_batches_without_targets_end_a_training(toy) -> None:
    def nothing(prepared: Any, seed: int, epoch: int):
        ids = torch.ones(2, 3, dtype=torch.int64)
        yield Batch(ids, torch.zeros_like(ids), ids > 0)

    probe = Probe(toy(make_batches=nothing), "deep")
    model = probe.model()
    before = [p.clone() for p in model.parameters()]
    cures.run(probe, model, cures.Arm(steps=5), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    cures.run(Probe(toy(), "deep"), model, cures.Arm(steps=5), 0)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
