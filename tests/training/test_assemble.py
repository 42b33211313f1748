"""Plain settings become the training they describe."""

from __future__ import annotations

import pytest
import torch

from tasks.settings import SharedTraining, TrainSettings
from tasks.training.assemble import assemble, resolve_device, resolve_precision
from tasks.training.loop import train
from tasks.training.objective import FullCrossEntropy, SampledObjective


def shared(**overrides):
    small = {"max_seq_len": 6, "batch_size": 8, "max_epochs": 1, "device": "cpu"}
    return SharedTraining(**{**small, **overrides}).model_dump()


def section(name="gru", **overrides):
    return getattr(TrainSettings(), name).model_dump() | {"embedding_dim": 8} | overrides


@pytest.mark.parametrize("name", ["gru", "lstm", "sasrec", "xlstm"])
def test_default_settings_train(data, name):
    trial = assemble(name, data, shared(), section(name), seed=3)
    record = train(trial.parts, trial.plan)
    assert record.num_epochs == 1
    assert trial.recommender.name == name
    assert trial.plan.seed == trial.batches.seed == 3


def test_settings_arrive(data):
    trial = assemble(
        "gru",
        data,
        shared(
            max_epochs=9,
            patience=4,
            warmup_steps=7,
            schedule="constant",
            final_learning_rate=0.3,
            max_grad_norm=0.5,
            checkpoint_every_steps=11,
            label_smoothing=0.1,
            precision="bf16",
        ),
        section(learning_rate=0.004, weight_decay=0.2),
    )
    plan = trial.plan
    assert (plan.max_epochs, plan.patience, plan.warmup_steps) == (9, 4, 7)
    assert (plan.schedule, plan.final_learning_rate, plan.max_grad_norm) == ("constant", 0.3, 0.5)
    assert (plan.checkpoint_every_steps, plan.precision) == (11, "bf16")
    assert (plan.learning_rate, plan.weight_decay) == (0.004, 0.2)
    assert trial.parts.objective == FullCrossEntropy(0.1)
    assert (trial.batches.max_seq_len, trial.batches.batch_size) == (6, 8)
    assert trial.recommender.max_seq_len == 6


def test_sampled_losses_get_their_sampler(data):
    objective = assemble(
        "gru",
        data,
        shared(
            loss="gbce",
            num_negatives=5,
            negatives="popularity",
            negatives_per="user",
            popularity_exponent=1.0,
            collisions="exclude_positives",
            gbce_calibration=0.4,
        ),
        section(),
    ).parts.objective
    assert isinstance(objective, SampledObjective)
    sampler = objective.sampler
    assert (objective.loss, objective.calibration) == ("gbce", 0.4)
    assert (sampler.num_negatives, sampler.scope) == (5, "user")
    assert sampler.collisions == "exclude_positives"
    counts = torch.from_numpy(data.item_counts).double()
    torch.testing.assert_close(sampler.probabilities, counts / counts.sum())


def test_times_are_carried_only_where_read(data):
    with_times = assemble("xlstm", data, shared(), section("xlstm", time_gaps=True))
    without = assemble("xlstm", data, shared(), section("xlstm"))
    assert next(with_times.batches.epoch(0)).times is not None
    assert next(without.batches.epoch(0)).times is None
    assert train(with_times.parts, with_times.plan).num_epochs == 1


def test_device_and_precision():
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == cpu
    assert resolve_precision("auto", cpu) == "float32"
    assert resolve_precision("auto", torch.device("cuda")) == "bf16"
    assert resolve_precision("bf16", cpu) == "bf16"
    if not torch.cuda.is_available():
        assert resolve_device("auto") == cpu
        with pytest.raises(ValueError, match="torch finds no GPU"):
            resolve_device("cuda")


def test_count_models_are_not_trained(data):
    with pytest.raises(ValueError, match="'popularity', which is fitted"):
        assemble("popularity", data, shared(), {})


@pytest.mark.parametrize("limit", [4, 500], ids=["cut", "whole"])
def test_replayed_windows_are_no_wider_than_the_longest(data, limit):
    batches = assemble("gru", data, shared(max_seq_len=limit), section()).batches
    widest = max(batch.item_ids.shape[1] for epoch in (0, 1) for batch in batches.epoch(epoch))
    assert widest == batches.longest_window == min(limit, int(data.train.lengths.max()) - 1)
