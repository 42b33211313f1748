"""Every baseline core keeps the protocol of sequence models."""

from __future__ import annotations

import pytest
import torch

from tasks.baselines.gru import GRUCore
from tasks.baselines.lstm import LSTMCore
from tasks.baselines.padding import right_padded
from tasks.baselines.sasrec import SASRecCore
from xlstm_model.protocol import SequenceModel
from xlstm_model.state import index_select_state, named_tensors

D, S, B = 8, 7, 4
CORES = {
    "gru": lambda: GRUCore(D),
    "gru_2_layers": lambda: GRUCore(D, num_layers=2, dropout=0.5),
    "lstm": lambda: LSTMCore(D),
    "lstm_2_layers": lambda: LSTMCore(D, num_layers=2, dropout=0.5),
    "sasrec": lambda: SASRecCore(D, num_layers=2, num_heads=2, max_seq_len=S, dropout=0.5),
}


@pytest.fixture(params=CORES)
def core(request):
    torch.manual_seed(3)
    return CORES[request.param]().double().eval()


@pytest.fixture
def x():
    return torch.randn(B, S, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask():
    lengths = torch.tensor([7, 1, 4, 6])
    return torch.arange(S) < lengths[:, None]


def assert_states_equal(first, second):
    for (name, a), (_, b) in zip(named_tensors(first), named_tensors(second), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_core_is_a_sequence_model(core):
    assert isinstance(core, SequenceModel)


def test_shape_and_dependence_on_input(core, x):
    y, _ = core(x)
    assert y.shape == (B, S, D)
    assert not torch.allclose(y, core(x.flip(0))[0])


def test_causal(core, x):
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, after = core(x)[0], core(changed)[0]
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=0)
    assert (before[:, 4:] != after[:, 4:]).any(dim=2).all()


def test_samples_do_not_touch_each_other(core, x, mask):
    together, state = core(x, mask=mask)
    for row in range(B):
        alone, own = core(x[row : row + 1], mask=mask[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-10, atol=1e-12)
        if row == 1:
            assert_states_equal(index_select_state(state, torch.tensor([row])), own)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_padding_content_reaches_nothing(core, x, mask, value):
    x.requires_grad_()
    spoiled = torch.where(mask[..., None], x, value)
    y, state = core(spoiled, mask=mask)
    clean, clean_state = core(torch.where(mask[..., None], x, 0.0), mask=mask)
    torch.testing.assert_close(y, clean, rtol=0, atol=0)
    assert (y[~mask] == 0).all()
    assert_used_states_equal(core, state, clean_state)
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in core.parameters() if p.grad is not None)


def assert_used_states_equal(core, first, second):
    """What a continuation makes of two states agrees."""
    width = torch.ones(B, D, dtype=torch.float64)
    if isinstance(core, SASRecCore):  # full rows have no further position
        rows = (first.lengths < S).nonzero()[:, 0]
        first, second = index_select_state(first, rows), index_select_state(second, rows)
        width = width[: len(rows)]
    torch.testing.assert_close(core.step(width, first)[0], core.step(width, second)[0])


def test_padding_side_does_not_matter(core, x, mask):
    right, right_state = core(x, mask=mask)
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)  # padding first
    left_x = x.gather(1, order[..., None].expand_as(x))
    left_mask = mask.gather(1, order)
    left, left_state = core(left_x, mask=left_mask)
    torch.testing.assert_close(left[left_mask], right[mask], rtol=1e-10, atol=1e-12)
    assert (left[~left_mask] == 0).all()
    assert_used_states_equal(core, left_state, right_state)


def test_holes_are_skipped(core, x):
    mask = torch.tensor([True, False, True, True, False, True, False]).expand(B, S)
    with_holes, state = core(x, mask=mask)
    dense, dense_state = core(x[:, mask[0]])
    torch.testing.assert_close(with_holes[mask], dense.flatten(0, 1), rtol=1e-10, atol=1e-12)
    assert_used_states_equal(core, state, dense_state)


def test_steps_equal_whole_sequence(core, x):
    whole, final = core(x)
    state, outputs = core.initial_state(B), []
    for t in range(S):
        y, state = core.step(x[:, t], state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), whole, rtol=1e-10, atol=1e-12)
    assert_states_equal(state, final)


def test_split_sequence_continues_from_state(core, x, mask):
    """A masked first part of mixed lengths, then each row's own continuation."""
    first = torch.arange(3) < torch.tensor([3, 1, 2, 3])[:, None]
    _, state = core(x[:, :3], mask=first)
    continued, _ = core(x[:, 3:], mask=mask[:, 3:], state=state)
    for row in range(B):
        events = torch.cat([x[row, :3][first[row]], x[row, 3:][mask[row, 3:]]])
        expected = core(events[None])[0][0, int(first[row].sum()) :]
        actual = continued[row][mask[row, 3:]]
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_all_padding_row_keeps_state(core, x):
    mask = torch.ones(B, 3, dtype=torch.bool)
    mask[2] = False
    _, before = core(x[:, :2])
    y, after = core(x[:, 2:5], mask=mask, state=before)
    row = torch.tensor([2])
    assert_states_equal(index_select_state(before, row), index_select_state(after, row))
    assert (y[2] == 0).all()


def test_given_state_is_not_changed(core, x):
    state = core.initial_state(B)
    copies = [tensor.clone() for _, tensor in named_tensors(state)]
    assert copies
    core(x[:, :3], state=state)
    core.step(x[:, 0], state)
    for (_, tensor), copy in zip(named_tensors(state), copies, strict=True):
        assert torch.equal(tensor, copy)


def test_gradient_reaches_every_parameter_and_the_first_event(core, x, mask):
    x.requires_grad_()
    y, _ = core(x, mask=mask)
    y[0, -1].square().sum().backward()
    assert (x.grad[0] != 0).any(dim=1).all()
    silent = {n for n, p in core.named_parameters() if p.grad is None or not p.grad.any()}
    # The attention key bias adds the same to every score of a query, which softmax cancels; it is
    # part of qkv.bias, whose other parts do get a gradient.
    assert silent == set()


def test_gradcheck(core, x):
    x = x[:2, :4].clone().requires_grad_()
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    _, state = core(x, mask=mask)
    assert any(t.requires_grad for _, t in named_tensors(state))

    def outputs_and_state(inputs):
        y, after = core(inputs, mask=mask)
        return y, *(t for _, t in named_tensors(after) if t.is_floating_point())

    if isinstance(core, SASRecCore):
        assert torch.autograd.gradcheck(lambda v: core(v, mask=mask)[0], x)
    else:
        assert torch.autograd.gradcheck(outputs_and_state, x)


@pytest.mark.parametrize("build", [GRUCore, LSTMCore, SASRecCore])
def test_dropout_acts_in_training_only(build, x):
    core = build(D, num_layers=1, dropout=0.5).double()
    assert not torch.equal(core(x)[0], core(x)[0])
    core.eval()
    assert torch.equal(core(x)[0], core(x)[0])


def test_sasrec_refuses_more_positions_than_it_learned():
    core = SASRecCore(D, max_seq_len=3)
    with pytest.raises(ValueError, match=r"4 positions; expected at most max_seq_len = 3"):
        core(torch.zeros(1, 4, D))
    _, state = core(torch.zeros(1, 3, D))
    with pytest.raises(ValueError, match="4 positions"):
        core.step(torch.zeros(1, D), state)


def test_sasrec_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="num_heads is 3"):
        SASRecCore(D, num_heads=3)


def test_wrong_mask_is_refused():
    with pytest.raises(ValueError, match=r"expected bool of shape \(2, 3\)"):
        right_padded(torch.zeros(2, 3, D), torch.ones(2, 3))
