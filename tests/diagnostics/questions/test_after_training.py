"""G5, G20, G21, G24, X20: what a finished training and counting say."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.finding import Finding, Repeat
from tasks.diagnostics.measurements.loss_curve import LossCurve, read_curve
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    batch_and_length_suit,
    distributions_reasonable,
    loss_falls,
    loss_falls_each_epoch,
    simple_model_learns,
    validation_improves,
)
from tasks.diagnostics.subject import RawLog
from tests.diagnostics.conftest import make_log

AFTER = (loss_falls, loss_falls_each_epoch, validation_improves)


def stepping(rate: float):
    return lambda model: torch.optim.AdamW(model.parameters(), lr=rate)


@pytest.mark.parametrize("question", AFTER, ids=lambda q: q.QUESTION.id)
def test_a_trained_program_is_healthy(question, healthy_trained: Probe) -> None:
    assert answer(question.QUESTION, healthy_trained).verdict == "healthy"


@pytest.mark.parametrize("question", AFTER, ids=lambda q: q.QUESTION.id)
def test_undetermined_before_training(question, toy) -> None:
    finding = answer(question.QUESTION, Probe(toy(), "after_training"))
    assert finding.verdict == "undetermined"
    assert "train" in finding.advice[0]


def test_a_short_training_has_no_verdict_on_skill(trained) -> None:
    probe = trained(epochs=2, make_optimizer=stepping(1e-4))
    for question in (loss_falls_each_epoch, validation_improves):
        finding = answer(question.QUESTION, probe)
        assert finding.verdict == "undetermined", finding.sentence


def skewed_log() -> RawLog:
    """Half of the events on three items, so that popularity is worth learning."""
    log = make_log(num_users=80)
    rng = np.random.default_rng(1)
    popular = rng.choice(["i1", "i2", "i3"], len(log))
    return RawLog(log.user, np.where(rng.random(len(log)) < 0.5, popular, log.item), log.time)


def test_a_flat_loss_is_a_symptom(trained) -> None:
    probe = trained(make_optimizer=stepping(1e-12), log=skewed_log(), epochs=10)
    finding = answer(loss_falls.QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("faulty", "symptom")


def test_a_rate_that_falls_at_once_is_named(healthy_trained: Probe) -> None:
    evidence = loss_falls.measure(healthy_trained)
    for share, verdict in ((0.5, "healthy"), (0.51, "faulty")):
        finding = loss_falls.judge(
            dataclasses.replace(evidence, slow_share=share), loss_falls.LIMITS
        )
        assert finding.verdict == verdict
    assert finding.stage == "learning_rate"


def fallen(healthy_trained: Probe, trained: float, *, levelled: bool = True) -> Finding:
    """G20 of a loss of 4 nats alike, 3 by popularity and 2 by transitions."""
    evidence = loss_falls.measure(healthy_trained)
    outcome = dataclasses.replace(
        evidence.outcome, uniform=4.0, popularity=3.0, transitions=2.0, trained=trained
    )
    state = dataclasses.replace(evidence.state, levelled=levelled)
    changed = dataclasses.replace(evidence, outcome=outcome, state=state, recorded=None)
    return loss_falls.judge(changed, loss_falls.LIMITS)


def test_fall_of_the_loss_at_the_limits(healthy_trained: Probe) -> None:
    assert fallen(healthy_trained, 3.751).verdict == "faulty"
    assert fallen(healthy_trained, 3.75).verdict == "suspect"
    assert fallen(healthy_trained, 2.901).verdict == "suspect"
    assert fallen(healthy_trained, 2.899).verdict == "healthy"
    assert fallen(healthy_trained, 3.9, levelled=False).verdict == "undetermined"


def test_the_weights_of_an_early_epoch_do_not_count_against_a_fall(healthy_trained: Probe) -> None:
    evidence = loss_falls.measure(healthy_trained)
    outcome = dataclasses.replace(
        evidence.outcome, uniform=4.0, popularity=3.0, transitions=2.0, trained=3.95
    )
    changed = dataclasses.replace(evidence, outcome=outcome, recorded=2.5)
    assert loss_falls.judge(changed, loss_falls.LIMITS).verdict == "healthy"


def test_a_model_at_rest_without_skill_is_suspect(healthy_trained: Probe) -> None:
    evidence = validation_improves.measure(healthy_trained)
    none = dataclasses.replace(evidence.skill, share=0.0, p_below=0.0)
    for fits, levelled, verdict in (
        (True, False, "faulty"),
        (False, True, "suspect"),
        (False, False, "undetermined"),
    ):
        state = dataclasses.replace(evidence.state, fits_training=fits, levelled=levelled)
        changed = dataclasses.replace(evidence, skill=none, state=state, again=Repeat(0.1, 0.01))
        found = validation_improves.judge(changed, validation_improves.LIMITS)
        assert found.verdict == verdict


def test_other_weights_than_the_best_are_found(toy, trained) -> None:
    probe = trained()
    kept = probe.subject.trained
    worse = probe.subject.build_model(probe.data.num_items, 0)
    subject = probe.subject
    handed = dataclasses.replace(kept, model=worse.eval())
    # `replace` would drop the training, which a changed training is not meant to do.
    swapped = Probe(dataclasses.replace(subject, trained=handed), "after_training")
    finding = answer(validation_improves.QUESTION, swapped)
    assert "metric" in {c.stage for c in finding.checks if c.broken}


def test_a_wrong_best_epoch_is_found(healthy_trained: Probe) -> None:
    subject = healthy_trained.subject
    kept = subject.trained
    assert kept is not None
    values = [row["val/ndcg_at_10"] for row in kept.epochs]
    wrong = dict(kept.record) | {"best_epoch": int(np.argmin(values)) + 1}
    changed = dataclasses.replace(subject, trained=dataclasses.replace(kept, record=wrong))
    finding = answer(validation_improves.QUESTION, Probe(changed, "after_training"))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_a_rising_loss_is_found(healthy_trained: Probe) -> None:
    judge, limits = loss_falls_each_epoch.judge, loss_falls_each_epoch.LIMITS
    worse, better = Repeat(0.9, 0.01), Repeat(0.0, 0.5)

    def verdict(curve: LossCurve, **again: Repeat) -> str:
        return judge(loss_falls_each_epoch.Evidence(curve, **again), limits).verdict

    rising = read_curve(np.linspace(3.0, 4.0, 12), np.ones(12))
    assert verdict(rising, rises_again=worse) == "faulty"
    assert verdict(rising) == verdict(rising, rises_again=better) == "suspect"
    back_up = read_curve(
        np.concatenate([np.linspace(4, 1, 10), np.linspace(1, 3, 10)]), np.ones(20)
    )
    assert verdict(back_up, rebounds_again=worse) == "faulty"
    assert verdict(back_up, rebounds_again=Repeat(0.9, 0.06)) == "suspect"
    broken = read_curve(np.array([3.0, 2.0, np.nan, 1.0, 0.9]), np.ones(5))
    assert verdict(broken) == "faulty"
    short = read_curve(np.array([3.0, 2.0]), np.ones(2))
    assert verdict(short) == "undetermined"
    noise = read_curve(4.6 + 0.01 * np.random.default_rng(0).normal(size=30), np.ones(30))
    assert verdict(noise) == "healthy"
    at_limit = dataclasses.replace(rising, slope=limits["rise"].value * 3.0 / 11, last=3.0)
    assert verdict(at_limit) == "healthy"


def constant_log(toy, items: np.ndarray) -> RawLog:
    log = toy().log
    return RawLog(log.user, items, log.time)


def test_a_log_of_a_few_items_can_tell_no_models_apart(toy) -> None:
    log = toy().log
    few = np.array([f"i{int(name[1:]) % 8}" for name in log.item])
    finding = answer(distributions_reasonable.QUESTION, Probe(toy(log=constant_log(toy, few))))
    assert (finding.verdict, finding.stage) == ("faulty", "distribution")


def test_statistics_at_their_limits(healthy: Probe) -> None:
    evidence = distributions_reasonable.measure(healthy)
    judge, limits = distributions_reasonable.judge, distributions_reasonable.LIMITS
    for field, limit, verdict in (
        ("top_k_share", "top_k", "faulty"),
        ("drift", "drift", "faulty"),
        ("cold_share", "cold", "suspect"),
        ("top_item_share", "one_item", "suspect"),
        ("duplicate_share", "duplicates", "suspect"),
    ):
        at = dataclasses.replace(evidence, p_of_drift=0.0, **{field: limits[limit].value})
        assert judge(at, limits).verdict == "healthy", field
        over = dataclasses.replace(at, **{field: limits[limit].value + 0.001})
        assert judge(over, limits).verdict == verdict, field


def test_test_targets_under_other_ids_are_found_by_counting(toy) -> None:
    prepare = toy().prepare

    def other_ids(log):
        prepared = prepare(log)
        data = prepared.data
        moved = dataclasses.replace(
            data.test, targets=(data.test.targets + 13) % data.num_items + 1
        )
        return dataclasses.replace(prepared, data=dataclasses.replace(data, test=moved))

    finding = answer(simple_model_learns.QUESTION, Probe(toy(prepare=other_ids)))
    assert (finding.verdict, finding.stage) == ("faulty", "distribution")


def test_shuffled_training_sequences_are_found_beside_the_log(toy) -> None:
    prepare = toy().prepare

    def shuffled(log):
        time = np.random.default_rng(0).permutation(log.time)
        return prepare(RawLog(log.user, log.item, time))

    finding = answer(simple_model_learns.QUESTION, Probe(toy(prepare=shuffled)))
    assert (finding.verdict, finding.stage) == ("faulty", "distribution")


def test_a_log_without_order_is_not_judged(toy) -> None:
    log = toy().log
    mixed = np.random.default_rng(0).permutation(log.item)
    finding = answer(simple_model_learns.QUESTION, Probe(toy(log=constant_log(toy, mixed))))
    assert finding.verdict == "not_applicable"
    assert "no order to learn" in finding.sentence


def test_a_model_below_counting_is_suspect(healthy_trained: Probe) -> None:
    evidence = simple_model_learns.measure(healthy_trained)
    assert evidence.model is not None
    for share, verdict in ((0.7, "healthy"), (0.69, "suspect")):
        model = dataclasses.replace(evidence.model, share=share)
        changed = dataclasses.replace(evidence, model=model)
        finding = simple_model_learns.judge(changed, simple_model_learns.LIMITS)
        assert finding.verdict == verdict


def test_too_few_users_leave_the_questions_open(toy) -> None:
    log = toy().log
    few = Probe(toy(log=log.keep(np.isin(log.user, [f"u{n}" for n in range(12)]))))
    for question in (simple_model_learns, distributions_reasonable):
        assert answer(question.QUESTION, few).verdict == "undetermined"


def test_a_training_that_ended_with_nan_is_found_by_its_failure(toy) -> None:
    subject = dataclasses.replace(toy(), failure="the loss is not finite at step 6")
    finding = answer(loss_falls.QUESTION, Probe(subject, "after_training"))
    assert (finding.verdict, finding.stage, finding.rule) == ("faulty", "numeric", "exact")
    assert "step 6" in finding.sentence


def test_other_weights_than_the_best_are_named_by_what_holds(healthy_trained: Probe) -> None:
    subject = healthy_trained.subject
    kept = subject.trained
    other = subject.build_model(subject.prepared().data.num_items, 9).eval()
    swapped = dataclasses.replace(kept, model=other, last_model=None)

    def finding_of(trained):
        changed = dataclasses.replace(subject, trained=trained)
        return answer(validation_improves.QUESTION, Probe(changed, "after_training"))

    best = kept.record["best_epoch"]
    tested = {name.replace("test/", "val/"): value for name, value in kept.metrics.items()}
    rows = tuple({**row, **tested} if row["epoch"] == best else row for row in kept.epochs)
    on_test = dataclasses.replace(kept, epochs=rows)
    untold = dataclasses.replace(swapped, record={**kept.record})
    assert finding_of(untold).stage in ("metric", "inference")
    assert finding_of(on_test).stage in ("split", "metric")


def test_weights_that_rest_for_epochs_are_the_rate_s_fault(healthy_trained: Probe) -> None:
    subject = healthy_trained.subject
    kept = subject.trained
    record = {**kept.record, "best_epoch": 3}
    rests = dataclasses.replace(kept, record=record, last_model=copy.deepcopy(kept.model))
    changed = dataclasses.replace(subject, trained=rests)
    finding = answer(loss_falls.QUESTION, Probe(changed, "after_training"))
    assert (finding.verdict, finding.stage) == ("faulty", "learning_rate")


def test_a_finished_training_is_not_called_short(healthy_trained: Probe) -> None:
    assert answer(batch_and_length_suit.QUESTION, healthy_trained).verdict == "healthy"
