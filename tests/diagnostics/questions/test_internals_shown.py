"""G23: complete and true records are healthy; missing, stale, foreign and false ones are found."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements.recorded_loss import SLACK, RecordedLoss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.internals_shown import LIMITS, QUESTION, judge, measure
from tasks.diagnostics.subject import Subject, Trained

Rows = list[dict[str, Any]]
EPOCHS, PER_EPOCH = 6, 4
NEW_WEIGHTS = 0.55
"""Makes the losses of `records` begin where new weights of the toy stand, at ln 30."""


def records() -> tuple[Rows, Rows, dict[str, Any]]:
    """What a sound training of six epochs of four recorded steps leaves; norms clipped at 1."""
    steps: Rows = []
    for number in range(EPOCHS * PER_EPOCH):
        parts = {"grad/embedding": 0.5 + 0.05 * number, "grad/head": 0.4 + 0.01 * number}
        norm = math.hypot(*parts.values())
        row = {"step": number + 1, "epoch": number // PER_EPOCH + 1, "learning_rate": 0.01}
        row |= {"train/loss": 3.0 - 0.05 * number, "grad/norm": norm, "grad/clipped": norm > 1}
        steps.append(row | parts | {"update/head": 0.01 / (number + 1)})
    epochs: Rows = []
    for epoch in range(1, EPOCHS + 1):
        losses = [row["train/loss"] for row in steps if row["epoch"] == epoch]
        epochs.append(
            {
                "epoch": epoch,
                "step": epoch * PER_EPOCH,
                "train/loss": sum(losses) / len(losses),
                "learning_rate": 0.01,
                "val/ndcg_at_10": 0.1 + 0.01 * epoch,
                "val/hit_rate_at_10": 0.2,
            }
        )
    return epochs, steps, {"num_epochs": EPOCHS, "num_steps": EPOCHS * PER_EPOCH}


@pytest.fixture
def recorded(toy: Callable[..., Subject]) -> Callable[..., Probe]:
    """`recorded(epochs, steps, record)`: the toy with these records of a training."""

    def make(epochs: Rows, steps: Rows, record: dict[str, Any]) -> Probe:
        subject = toy()
        model = subject.build_model(30, 0).eval()
        trained = Trained(model, tuple(epochs), tuple(steps), record)
        return Probe(dataclasses.replace(subject, trained=trained), "after_training")

    return make


def test_sound_records_are_healthy(recorded) -> None:
    finding = answer(QUESTION, recorded(*records()))
    assert finding.verdict == "healthy", finding.sentence


def lose_metrics(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in epochs:
        del row["val/ndcg_at_10"], row["val/hit_rate_at_10"]


def lose_norms(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in steps:
        del row["grad/norm"]


def repeat_the_first_loss(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in (*epochs, *steps):
        row["train/loss"] = 3.0


def repeat_validation(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in epochs:
        row["val/ndcg_at_10"] = 0.1


def repeat_an_epoch(epochs: Rows, steps: Rows, record: dict) -> None:
    epochs[3]["epoch"] = 3


def other_run(epochs: Rows, steps: Rows, record: dict) -> None:
    record["num_parameters"] = 7


def norms_after_clipping(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in steps:
        shrink = min(1.0, 1.0 / row["grad/norm"])
        for name in ("grad/norm", "grad/embedding", "grad/head"):
            row[name] *= shrink


def wrong_flags(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in steps:
        row["grad/clipped"] = not row["grad/clipped"]


def norm_of_a_part(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in steps:
        row["grad/norm"] = row["grad/head"]


def not_a_number(epochs: Rows, steps: Rows, record: dict) -> None:
    steps[5]["train/loss"] = math.nan


def summed_loss(epochs: Rows, steps: Rows, record: dict) -> None:
    for row in epochs:
        row["train/loss"] *= PER_EPOCH


@pytest.mark.parametrize(
    "spoil",
    [
        lose_metrics,
        lose_norms,
        repeat_the_first_loss,
        repeat_validation,
        repeat_an_epoch,
        other_run,
        norms_after_clipping,
        wrong_flags,
        norm_of_a_part,
        not_a_number,
        summed_loss,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_spoiled_records_are_found(spoil, recorded) -> None:
    epochs, steps, record = records()
    spoil(epochs, steps, record)
    finding = answer(QUESTION, recorded(epochs, steps, record))
    assert (finding.verdict, finding.stage) == ("faulty", "monitoring")


def test_no_hit_at_all_is_no_stale_record(recorded) -> None:
    epochs, steps, record = records()
    for row in epochs:
        row["val/ndcg_at_10"] = row["val/hit_rate_at_10"] = 0.0
    assert answer(QUESTION, recorded(epochs, steps, record)).verdict == "healthy"


def test_undetermined_without_records(recorded, toy) -> None:
    epochs, steps, record = records()
    assert answer(QUESTION, Probe(toy(), "after_training")).verdict == "undetermined"
    assert answer(QUESTION, recorded([], steps, {})).verdict == "undetermined"
    assert answer(QUESTION, recorded(epochs, [], record)).verdict == "undetermined"


def test_epochs_that_were_made_and_left_no_row_are_missing(recorded) -> None:
    _, steps, record = records()
    finding = answer(QUESTION, recorded([], steps, record))
    assert (finding.verdict, finding.stage) == ("faulty", "monitoring")


def test_curves_of_weights_that_rest_are_true(recorded) -> None:
    epochs, steps, record = records()
    for row in (*epochs, *steps):
        row["train/loss"] += NEW_WEIGHTS
    still = [{**row, "val/ndcg_at_10": 0.2} for row in epochs]
    probe = recorded(still, steps, record | {"best_epoch": 1})
    assert answer(QUESTION, probe).verdict == "faulty"
    kept = probe.subject.trained
    rests = dataclasses.replace(kept, last_model=copy.deepcopy(kept.model))
    subject = dataclasses.replace(probe.subject, trained=rests)
    assert answer(QUESTION, Probe(subject, "after_training")).verdict == "healthy"


def test_an_epoch_shown_twice_is_found(recorded) -> None:
    epochs, steps, record = records()
    for row in epochs:
        row["train/loss"] += 1e-7 * math.pi
    assert answer(QUESTION, recorded(epochs, steps, record)).verdict == "healthy"
    epochs[3]["train/loss"] = epochs[2]["train/loss"]
    finding = answer(QUESTION, recorded(epochs, steps, record))
    assert finding.verdict == "faulty"
    assert "to the last digit" in finding.sentence


@pytest.mark.parametrize(
    ("shift", "verdict"), [(NEW_WEIGHTS, "healthy"), (NEW_WEIGHTS + 0.5, "faulty")]
)
def test_the_recorded_loss_is_that_of_the_weights(
    recorded, toy, shift: float, verdict: str
) -> None:
    epochs, steps, record = records()
    for row in (*epochs, *steps):
        row["train/loss"] += shift
    clean = toy()
    subject = clean.replace(ready=clean.prepared())
    epochs[0] |= subject.evaluate(subject, subject.build_model(30, 0).eval(), "val")
    finding = answer(QUESTION, recorded(epochs, steps, record | {"best_epoch": 1}))
    assert finding.verdict == verdict, finding.sentence


def test_the_loss_of_other_weights_is_not_judged(recorded) -> None:
    epochs, steps, record = records()
    for row in epochs:
        row["val/ndcg_at_10"] = 0.9
    assert measure(recorded(epochs, steps, record | {"best_epoch": 1})).loss is None


def test_the_loss_of_the_weights_at_the_limit(recorded) -> None:
    evidence = measure(recorded(*records()))
    for outside, verdict in ((SLACK, "healthy"), (1.01 * SLACK, "faulty")):
        loss = RecordedLoss(2.0, 1.9, 2.5, 0.01, outside)
        assert judge(dataclasses.replace(evidence, loss=loss), LIMITS).verdict == verdict
