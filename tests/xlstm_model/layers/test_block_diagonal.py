"""BlockDiagonalLinear against the dense matrix it stands for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from xlstm_model.layers import BlockDiagonalLinear


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.integers(1, 9),
    width_in=st.integers(1, 5),
    width_out=st.integers(1, 5),
    lead=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    bias=st.booleans(),
)
def test_equals_a_dense_map_with_blocks_on_the_diagonal(blocks, width_in, width_out, lead, bias):
    torch.manual_seed(0)
    layer = BlockDiagonalLinear(blocks * width_in, blocks * width_out, blocks, bias=bias).double()
    x = torch.randn(*lead, blocks * width_in, dtype=torch.float64)
    dense = torch.block_diag(*layer.weight)
    torch.testing.assert_close(layer.dense_weight(), dense)
    expected = x @ dense.T
    if bias:
        torch.nn.init.normal_(layer.bias)
        expected = expected + layer.bias
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("blocks", "width"), [(1, 6), (6, 1), (3, 4), (32, 4), (12, 4)])
def test_gradients(blocks, width):
    torch.manual_seed(0)
    layer = BlockDiagonalLinear(blocks * width, blocks * width, blocks).double()
    x = torch.randn(2, 3, blocks * width, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        state = {"weight": weight, "bias": bias}
        return torch.func.functional_call(layer, state, (x,))

    assert gradcheck(run, (x, layer.weight, layer.bias))


def test_reads_inputs_of_any_strides():
    layer = BlockDiagonalLinear(8, 8, 2)
    x = torch.randn(3, 8, 5).transpose(1, 2)
    assert torch.equal(layer(x), layer(x.contiguous()))


def test_no_positions_give_no_outputs():
    assert BlockDiagonalLinear(8, 4, 2)(torch.zeros(0, 3, 8)).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 8, 0), "num_blocks is 0; expected at least 1"),
        ((7, 8, 4), r"features_in is 7; expected a positive multiple of num_blocks \(4\)"),
        ((8, 6, 4), "features_out is 6"),
        ((0, 8, 4), "features_in is 0"),
    ],
)
def test_says_which_size_does_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        BlockDiagonalLinear(*sizes)
