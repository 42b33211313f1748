"""Parameter groups, schedule and clipping do what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tasks.training.models import MODELS, NeuralModel
from tasks.training.optimizer import (
    clip_gradients,
    learning_rate_at,
    make_adamw,
    parameter_groups,
    set_learning_rate,
)

NEURAL = [spec.name for spec in MODELS if isinstance(spec, NeuralModel)]


def names_by_group(model, **options):
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, **options)
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in groups}


@pytest.mark.parametrize("name", NEURAL)
def test_every_parameter_is_in_exactly_one_group(make_parts, name):
    model = make_parts(name).model
    groups = parameter_groups(model, 0.1)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


@pytest.mark.parametrize("name", NEURAL)
def test_biases_norms_and_embeddings_are_not_decayed(make_parts, name):
    model = make_parts(name, tied=False).model
    decayed = names_by_group(model)["decayed"]
    assert not [n for n in decayed if "bias" in n or "norm" in n or "embedding" in n]
    assert "output_weight" in decayed
    assert any("sequence_model" in n for n in decayed)
    one_dimensional = {n for n, p in model.named_parameters() if p.ndim < 2}
    assert not decayed & one_dimensional


def test_embeddings_are_decayed_when_asked(make_parts):
    decayed = names_by_group(make_parts("sasrec").model, decay_embeddings=True)["decayed"]
    assert {"item_embedding.weight", "sequence_model.positions.weight"} <= decayed


def test_frozen_and_shared_parameters():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    second.bias.requires_grad_(False)
    groups = parameter_groups(nn.Sequential(first, second), 0.1)
    assert [len(group["params"]) for group in groups] == [1, 1]


def test_weight_decay_shrinks_matrices_only_and_by_its_rate():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(2.0)
    optimizer = make_adamw(model, learning_rate=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight, torch.full((2, 2), 2.0 * (1 - 0.1 * 0.5)))
    torch.testing.assert_close(model.bias, torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("step", "progress", "options", "expected"),
    [
        (0, 0.0, {}, 1.0),
        (0, 0.5, {}, 0.5),
        (0, 1.0, {}, 0.0),
        (0, 1.0, {"final_share": 0.2}, 0.2),
        (0, 0.5, {"final_share": 0.2}, 0.6),
        (0, 1.7, {"final_share": 0.2}, 0.2),
        (0, 0.0, {"warmup_steps": 10}, 0.1),
        (4, 0.0, {"warmup_steps": 10}, 0.5),
        (9, 0.0, {"warmup_steps": 10}, 1.0),
        (50, 0.9, {"schedule": "constant"}, 1.0),
        (1, 0.9, {"schedule": "constant", "warmup_steps": 4}, 0.5),
        (99, 0.25, {}, 0.5 * (1 + math.cos(math.pi / 4))),
    ],
)
def test_schedule_by_hand(step, progress, options, expected):
    assert learning_rate_at(step, progress, peak=1.0, **options) == pytest.approx(expected)
    assert learning_rate_at(step, progress, peak=3.0, **options) == pytest.approx(3 * expected)


def test_learning_rate_reaches_every_group(make_parts):
    optimizer = make_adamw(make_parts().model, learning_rate=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("limit", "norm_after"), [(1.0, 1.0), (5.0, 5.0), (20.0, 10.0)])
def test_clipping_scales_down_and_reports_the_norm_before(limit, norm_after):
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([6.0, 0.0]), torch.tensor([8.0])
    assert clip_gradients(parameters, limit).item() == pytest.approx(10.0)
    after = torch.cat([p.grad for p in parameters])
    assert after.norm().item() == pytest.approx(norm_after, rel=1e-5)
    torch.testing.assert_close(after / after.norm(), torch.tensor([0.6, 0.0, 0.8]))
