"""Operations on nested states."""

from __future__ import annotations

import pytest
import torch

from xlstm_model import XLSTMStack
from xlstm_model.cells import MLSTMState
from xlstm_model.state import (
    detach_state,
    empty_state_like,
    index_select_state,
    load_state,
    map_state,
    move_state,
    named_tensors,
    replace_samples,
    reset_state,
    save_state,
)


@pytest.fixture
def stack() -> XLSTMStack:
    torch.manual_seed(0)
    return XLSTMStack(8, "ms", num_heads=2)


@pytest.fixture
def state(stack):
    return stack(torch.randn(3, 5, 8))[1]


def _equal(one, other) -> bool:
    pairs = zip(named_tensors(one), named_tensors(other), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def test_structure_and_types_survive(state):
    assert type(detach_state(state)[0].cell) is MLSTMState
    assert [name for name, _ in named_tensors(state)][:2] == ["0.cell.c", "0.cell.n"]


def test_selecting_reorders_drops_and_repeats(stack, state):
    x = torch.randn(3, 8)
    order = torch.tensor([2, 0, 0, 2])
    expected, _ = stack.step(x, state)
    chosen, _ = stack.step(x[order], index_select_state(state, order))
    torch.testing.assert_close(chosen, expected[order])


def test_reset_empties_some_samples_and_leaves_the_rest_bit_by_bit(stack, state):
    where = torch.tensor([False, True, False])
    after = reset_state(state, where)
    keep = torch.tensor([0, 2])
    assert _equal(index_select_state(after, keep), index_select_state(state, keep))
    fresh = index_select_state(stack.initial_state(3), torch.tensor([1]))
    assert _equal(index_select_state(after, torch.tensor([1])), fresh)


def test_reset_equals_a_fresh_start_forward_and_backward(stack, state):
    x = torch.randn(3, 4, 8)
    some = reset_state(state, torch.tensor([True, False, True]))
    for parameter in stack.parameters():
        parameter.grad = None
    y, _ = stack(x, state=detach_state(some))
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())
    torch.testing.assert_close(y[[0, 2]], stack(x)[0][[0, 2]])


def test_replacing_ignores_nan_on_the_side_not_taken():
    old = torch.tensor([1.0, 2.0], requires_grad=True)
    bad = torch.tensor([float("nan"), 5.0])
    (new,) = replace_samples((old,), (bad,), torch.tensor([False, True]))
    new.sum().backward()
    assert new.tolist() == [1.0, 5.0]
    assert old.grad.tolist() == [1.0, 0.0]


def test_empty_state_equals_the_stacks_own(stack, state):
    assert _equal(empty_state_like(state), stack.initial_state(3))


def test_moving_changes_floats_only():
    moved = move_state((torch.zeros(1), (torch.zeros(1, dtype=torch.int64),)), dtype=torch.float64)
    assert moved[0].dtype == torch.float64
    assert moved[1][0].dtype == torch.int64
    assert move_state((torch.zeros(1),), device="meta")[0].device.type == "meta"


def test_save_and_load_go_on_where_it_stopped(stack, state, tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(state, path)
    loaded = load_state(path, stack.initial_state(1))
    x = torch.randn(3, 8)
    assert _equal(loaded, state)
    assert torch.equal(stack.step(x, loaded)[0], stack.step(x, state)[0])


def test_states_of_another_model_are_refused(stack, state, tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(state, path)
    other = XLSTMStack(8, "mm", num_heads=2)
    with pytest.raises(ValueError, match=r"does not fit this model's state: 1\.cell"):
        load_state(path, other.initial_state(1))
    from safetensors.torch import save_file

    save_file({"0": torch.zeros(1)}, path, metadata={"format": "xlstm_state/99"})
    with pytest.raises(ValueError, match="format 'xlstm_state/99'"):
        load_state(path, (torch.zeros(1),))


def test_bad_masks_and_bad_states_are_refused(state):
    with pytest.raises(ValueError, match=r"where is torch.int64 of shape \(3,\)"):
        reset_state(state, torch.tensor([1, 0, 0]))
    with pytest.raises(ValueError, match=r"of shape \(2,\)"):
        reset_state(state, torch.tensor([True, False]))
    with pytest.raises(TypeError, match="a state holds dict"):
        map_state(torch.clone, {"h": torch.zeros(1)})
