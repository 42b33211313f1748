"""The full catalogue's cross-entropy on GPUs against PyTorch's in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tasks.training.fused_cross_entropy import linear_cross_entropy, seen_cross_entropy
from tests.xlstm_model.kernels.comparison import assert_equal, draw
from xlstm_model.kernels import library
from xlstm_model.kernels.cross_entropy import (
    fits,
    negative_log_likelihood,
    seen_items,
    split_turns,
)
from xlstm_model.repeats import RepeatBias, repeats_at

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    # The interpreter calculates with NumPy, which warns of numbers that are chosen away.
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
]

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def _leaves(T, V, D, rng, dtype, device, with_bias):
    leaves = [draw((T, D), rng, dtype, device), draw((V, D), rng, dtype, device, 0.3)]
    return leaves + ([draw((V,), rng, torch.float32, device)] if with_bias else [])


def _run(targets):
    def run(hidden, weight, bias=None):
        return negative_log_likelihood(hidden, weight, bias, targets)

    return run


def _reference(targets):
    def run(hidden, weight, bias=None):
        scores = (hidden @ weight.T + (0.0 if bias is None else bias))[:, 1:]
        lost = F.cross_entropy(scores, targets - 1, reduction="none", ignore_index=-1)
        return lost, scores.logsumexp(1)

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("shape", [(1, 2, 3), (130, 70, 16), (70, 200, 40)], ids=str)
def test_equals_float64(rng, device, dtype, with_bias, shape):
    T, V, D = shape
    leaves = _leaves(T, V, D, rng, dtype, device, with_bias)
    targets = torch.randint(1, V, (T,), generator=rng).to(device)
    for grads_of in ((0,), (0, 1)):
        assert_equal(_run(targets), _reference(targets), leaves, grads_of, TOLERANCE[dtype])


@pytest.mark.parametrize("multiprocessors", [1, 3, 40])
def test_gpus_of_any_size_add_up_the_same_gradient(rng, device, monkeypatch, multiprocessors):
    monkeypatch.setattr(library, "multiprocessors", lambda device: multiprocessors)
    T, V, D = 300, 70, 16
    leaves = _leaves(T, V, D, rng, torch.float32, device, True)
    targets = torch.randint(1, V, (T,), generator=rng).to(device)
    assert_equal(_run(targets), _reference(targets), leaves, (0,), TOLERANCE[torch.float32])


def test_turns_are_split_into_whole_waves():
    assert split_turns(tiles=10, turns=400, places=20, part_bytes=0) == 2
    # 7.9 of 8 waves.
    assert split_turns(tiles=418, turns=400, places=264, part_bytes=0) == 5
    assert split_turns(tiles=418, turns=400, places=264, part_bytes=10**9) == 1
    assert split_turns(tiles=1, turns=1, places=264, part_bytes=1) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("added", [(0.5, -0.3), (-9.0, 4.0)], ids=str)
def test_items_of_the_history_are_biased(rng, device, dtype, with_bias, added):
    B, S, V, D = 4, 19, 90, 16
    ids = torch.randint(0, V, (B, S), generator=rng)
    ids[:, 5:8] = ids[:, :3]  # comes back within a row
    positions = torch.nonzero(ids.flatten()).flatten()
    targets = torch.randint(1, V, (len(positions),), generator=rng)
    targets[::3] = ids.flatten()[positions][::3]  # the newest item again
    targets[1::3] = ids[:, 0].clamp(min=1)[positions[1::3] // S]  # often an earlier one
    targets[4] = 0
    leaves = _leaves(len(positions), V, D, rng, dtype, device, with_bias)
    leaves.append(torch.tensor(added, device=device, requires_grad=True))
    targets = targets.to(device)
    repeats = repeats_at(ids, positions // S, positions % S, S)
    bias = RepeatBias(S)

    def run(hidden, weight, *rest):
        seen = seen_items(ids.to(device), positions.to(device), V, rest[-1])
        offset = rest[0] if with_bias else None
        return negative_log_likelihood(hidden, weight, offset, targets, seen=seen)

    def reference(hidden, weight, *rest):
        scores = hidden @ weight.T + (rest[0] if with_bias else 0.0)
        index, _ = bias.additions(repeats)
        kinds = torch.cat([rest[-1][:1], rest[-1][1:].expand(index.shape[1] - 1)])
        index = index.to(device)
        scores = scores.scatter_add(1, index, torch.where(index == 0, 0.0, kinds))[:, 1:]
        lost = F.cross_entropy(scores, targets - 1, reduction="none", ignore_index=-1)
        return lost, scores.logsumexp(1)

    for grads_of in ((0,), (0, 1)):
        assert_equal(run, reference, leaves, grads_of, TOLERANCE[dtype])


def test_the_training_loss_equals_that_of_the_additions(rng, device):
    B, S, V, D = 3, 11, 40, 16
    ids = torch.randint(1, V, (B, S), generator=rng)
    ids[:, 6:] = ids[:, :5]
    targets = torch.randint(1, V, (B * S,), generator=rng)
    hidden, weight = (x.detach() for x in _leaves(B * S, V, D, rng, torch.float32, device, False))
    bias = RepeatBias(S)
    with torch.no_grad():
        bias.weight.copy_(torch.tensor([-0.4, 0.2]))
    positions = torch.arange(B * S)
    repeats = repeats_at(ids, positions // S, positions % S, S)
    index, values = (x.detach().to(device) for x in bias.additions(repeats))
    with library.disabled():
        expected = linear_cross_entropy(
            hidden, weight, None, targets.to(device), additions=(index, values)
        )
    rest = ids.to(device), positions.to(device), bias.bias.detach().to(device)
    actual = seen_cross_entropy(hidden, weight, targets.to(device), *rest)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    # Targets of 0 leave the mean to the others.
    kept = torch.arange(B * S) % 3 != 0
    few = seen_cross_entropy(hidden, weight, (targets * kept).to(device), *rest)
    index, values = index[kept], values[kept]
    with library.disabled():
        expected = linear_cross_entropy(
            hidden[kept], weight, None, targets[kept].to(device), additions=(index, values)
        )
    torch.testing.assert_close(few, expected, rtol=1e-5, atol=1e-5)


def test_padding_costs_nothing_and_gets_nothing(rng, device):
    leaves = _leaves(9, 6, 16, rng, torch.float32, device, True)
    targets = torch.tensor([1, 0, 5, 0, 2, 3, 4, 0, 1], device=device)
    assert_equal(_run(targets), _reference(targets), leaves, (0, 1), 2e-5)
    lost, _ = negative_log_likelihood(*leaves, targets)
    to_hidden, to_weight, to_bias = torch.autograd.grad(lost.sum(), leaves)
    assert not lost[targets == 0].any()
    assert not to_hidden[targets == 0].any()
    assert not to_weight[0].any()
    assert to_bias[0] == 0


def test_hard_scores_stay_finite(rng, device):
    leaves = _leaves(5, 40, 16, rng, torch.float32, device, False)
    with torch.no_grad():
        leaves[0].mul_(1e3)
    targets = torch.randint(1, 40, (5,), generator=rng).to(device)
    # Float32 holds scores of thousands to 2e-4. The interpreter rounds products before it adds.
    tolerance = 2e-4 if device.type == "cuda" else 5e-4
    assert_equal(_run(targets), _reference(targets), leaves, (0,), tolerance)


def test_fits_only_what_was_written_for(device):
    x = torch.zeros(2, 16, device=device)
    assert fits(x, x, None)
    assert not fits(x.double(), x.double(), None)
    assert not fits(x.bfloat16(), x, None)
    assert not fits(torch.zeros(2, 300, device=device), torch.zeros(2, 300, device=device), None)
