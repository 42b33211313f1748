"""The loop learns, stops, keeps the best weights, fails loudly, and lets parts be swapped."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tasks.training import loop
from tasks.training.checkpoint import CheckpointFolder
from tasks.training.loop import evaluating, train
from tasks.training.models import MODELS, NeuralModel
from tasks.training.observer import Observer
from tasks.training.plan import NonFiniteLossError, TrainingInterruptedError, TrainingPlan
from tasks.training.snapshot import copy_weights
from tasks.training.step import train_step

NEURAL = [spec.name for spec in MODELS if isinstance(spec, NeuralModel)]


class Log(Observer):
    """Notes every call."""

    def __init__(self, every=1):
        self.every = every
        self.calls, self.reports = [], []

    def on_start(self, start):
        self.calls.append("start")
        self.start = start

    def wants_step(self, step):
        return step % self.every == 0

    def on_step_start(self, model, batch, step):
        self.calls.append(("before", step))

    def on_gradients(self, model, step):
        self.calls.append(("gradients", step))

    def on_step(self, report):
        self.calls.append(("after", report.step))
        self.reports.append(report)

    def on_epoch(self, report):
        self.calls.append(("epoch", report.epoch))

    def on_finish(self, values):
        self.calls.append("finish")


def weights_equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", NEURAL)
def test_every_neural_model_learns_the_order(train_toy, make_parts, plan, name):
    """4 of 5 targets follow from the last item; popularity alone would hit 1 in 12."""
    parts = make_parts(name)
    record = train(parts, replace(plan, max_epochs=25, patience=25))
    with evaluating(parts.model):
        metrics = parts.validate(parts.model)
    assert metrics["hit_rate_at_1"] > 0.6
    losses = [row["train/loss"] for row in record.history]
    assert losses[0] == pytest.approx(math.log(12), abs=0.4)
    assert losses[-1] < losses[0] - 0.7


def test_equal_seeds_give_equal_bits_and_others_do_not(make_parts, plan):
    runs = []
    for seed in (5, 5, 6):
        parts = make_parts("gru", seed=seed)
        record = train(parts, replace(plan, seed=seed))
        runs.append((copy_weights(parts.model), [row["train/loss"] for row in record.history]))
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert weights_equal(runs[0][0], runs[1][0])


def test_global_generators_do_not_reach_the_result(make_parts, plan):
    results = []
    for disturbed in (False, True):
        parts = make_parts("gru")

        class Disturb(Observer):
            def wants_step(self, step):
                return True

            def on_gradients(self, model, step):
                torch.rand(3)

            def on_step(self, report):
                torch.rand(7)

        train(parts, plan, observers=[Disturb()] if disturbed else [])
        results.append(copy_weights(parts.model))
    assert weights_equal(*results)


def test_best_weights_come_back_and_patience_stops(make_parts, plan):
    values = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    seen = []

    def validate(model):
        seen.append(copy_weights(model))
        return {"ndcg_at_10": next(values)}

    parts = replace(make_parts(), validate=validate)
    record = train(parts, replace(plan, max_epochs=5, patience=2))
    assert (record.stop_reason, record.num_epochs) == ("patience", 4)
    assert (record.best_epoch, record.best_value) == (2, 0.5)
    assert weights_equal(copy_weights(parts.model), seen[1])
    assert not weights_equal(seen[1], seen[3])


def test_budget_stops_and_the_history_is_complete(train_toy, plan):
    parts, record = train_toy()
    assert (record.stop_reason, record.num_epochs) == ("max_epochs", plan.max_epochs)
    num_batches = [parts.batches.num_batches(epoch) for epoch in range(plan.max_epochs)]
    assert record.num_steps == sum(num_batches)
    assert [row["step"] for row in record.history] == [sum(num_batches[: e + 1]) for e in range(3)]
    for row in record.history:
        assert row["seconds"] > 0
        assert row["tokens_per_second"] > 0
        assert 0 <= row["grad/clipped_share"] <= 1
        assert 0 <= row["val/ndcg_at_10"] <= 1
    assert record.wall_seconds >= sum(row["seconds"] for row in record.history) * 0.99
    assert "history" not in record.as_row()


def test_epoch_loss_is_the_mean_over_positions(make_parts, plan):
    log = Log()
    parts = make_parts()
    record = train(parts, replace(plan, max_epochs=1), observers=[log])
    total = sum(report.loss.item() * report.num_targets for report in log.reports)
    count = sum(report.num_targets for report in log.reports)
    assert record.history[0]["train/loss"] == pytest.approx(total / count, rel=1e-6)
    assert count == sum(len(s) - 1 for s in map(parts.validate.data.train.sequence, range(40)))


def test_observers_are_told_in_order(train_toy):
    log = Log(every=3)
    parts, record = train_toy(observers=[log])
    assert log.calls[0] == "start"
    assert log.calls[1:4] == [("before", 3), ("gradients", 3), ("after", 3)]
    assert log.calls[-2:] == [("epoch", 3), "finish"]
    assert [call[1] for call in log.calls if call[0] == "epoch"] == [1, 2, 3]
    assert log.start.num_parameters == sum(p.numel() for p in parts.model.parameters())
    assert [report.step for report in log.reports] == list(range(3, record.num_steps + 1, 3))


def test_learning_rates_follow_warm_up_and_cosine(train_toy, plan):
    log = Log()
    train_toy(observers=[log])
    rates = [report.learning_rate for report in log.reports]
    assert rates[0] == pytest.approx(plan.learning_rate / 4, rel=0.01)
    assert max(rates) <= plan.learning_rate
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(plan.final_learning_rate * plan.learning_rate, rel=0.2)


@pytest.mark.parametrize("where", ["loss", "gradient norm"])
def test_non_finite_stops_with_a_checkpoint_of_the_cause(make_parts, plan, tmp_path, where):
    parts = make_parts()
    bad_step = 6
    calls = iter(range(1, 100))

    def objective(model, hidden, batch, sound=parts.objective):
        loss = sound(model, hidden, batch)
        if next(calls) < bad_step:
            return loss
        # The gradient of sqrt at 0 is infinite while its value is 0.
        broken = loss * float("nan") if where == "loss" else loss + (hidden.sum() * 0).sqrt()
        return broken

    checkpoints = CheckpointFolder(tmp_path, "x")
    with pytest.raises(NonFiniteLossError, match=f"the {where} is not finite at step 6") as caught:
        train(replace(parts, objective=objective), plan, checkpoints=checkpoints)
    error = caught.value
    assert error.step == bad_step
    assert math.isfinite(error.last_finite_loss)
    assert error.learning_rate == pytest.approx(plan.learning_rate, rel=0.2)
    failure = checkpoints.read(tmp_path / "failure.json")
    assert failure.step == bad_step - 1
    for name, tensor in parts.model.state_dict().items():
        assert torch.equal(failure.tensors[f"model.{name}"], tensor)
        assert tensor.isfinite().all()


def test_asked_to_stop_it_saves_and_says_how_to_go_on(train_toy, tmp_path):
    checkpoints = CheckpointFolder(tmp_path, "x")
    asked = iter([False] * 5 + [True])
    with pytest.raises(TrainingInterruptedError, match="stopped at step 6"):
        train_toy(checkpoints=checkpoints, should_stop=lambda: next(asked))
    assert checkpoints.load_latest()[0].step == 6


def test_parts_can_be_swapped_one_by_one(make_parts, plan):
    parts = make_parts()
    used = []

    def sgd(model, plan):
        used.append("optimizer")
        return torch.optim.SGD(model.parameters(), lr=plan.learning_rate)

    def step(*arguments, **options):
        used.append("step")
        return train_step(*arguments, **options)

    def objective(model, hidden, batch):
        used.append("objective")
        return hidden.square().mean()

    train(
        replace(parts, make_optimizer=sgd, step=step, objective=objective),
        replace(plan, max_epochs=1),
    )
    assert used[0] == "optimizer"
    assert used[1:3] == ["step", "objective"]


@pytest.mark.parametrize("is_training", [True, False])
def test_validation_sees_eval_mode_and_leaves_the_mode_alone(make_parts, is_training):
    model = make_parts().model.train(is_training)
    with evaluating(model):
        assert not model.training
        assert not model.item_embedding(torch.tensor([1])).requires_grad
    assert model.training is is_training


def test_metric_that_is_missing_or_nan_is_refused(make_parts, plan):
    parts = make_parts()
    with pytest.raises(ValueError, match="monitor is 'recall'; expected one of"):
        train(parts, replace(plan, monitor="recall"))
    parts = replace(parts, validate=lambda model: {"ndcg_at_10": float("nan")})
    with pytest.raises(ValueError, match="ndcg_at_10 is NaN"):
        train(parts, plan)


@pytest.mark.parametrize("field", ["max_epochs", "patience", "checkpoint_every_steps"])
def test_plans_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 0; expected at least 1"):
        TrainingPlan(**{"max_epochs": 1, field: 0})
    with pytest.raises(ValueError, match="learning_rate is 0"):
        TrainingPlan(max_epochs=1, learning_rate=0)


def test_a_checkpoint_is_never_written_over_an_unseen_nan(make_parts, plan, tmp_path, monkeypatch):
    """Where losses are looked at rarely, as on a GPU, saving looks first."""
    monkeypatch.setattr(loop, "CPU_CHECK_EVERY", 1000)
    parts = make_parts()
    calls = iter(range(1, 100))

    def step(*arguments, **options):
        result = parts.step(*arguments, **options)
        return result._replace(loss=result.loss * (float("nan") if next(calls) == 6 else 1.0))

    checkpoints = CheckpointFolder(tmp_path, "x")
    with pytest.raises(NonFiniteLossError, match="step 6"):
        train(replace(parts, step=step), plan, checkpoints=checkpoints)
    assert checkpoints.load_latest()[0].step <= 5
