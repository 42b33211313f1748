"""``torch.compile`` without graph breaks and ``torch.export`` of forward and step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import SequenceRecommender, XLSTMStack, lengths_to_mask
from xlstm_model.layers import FeatureNorm, GatedFeedForward
from xlstm_model.state import named_tensors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=["ms", "large"])
def stack(request) -> XLSTMStack:
    torch.manual_seed(0)
    if request.param == "large":
        return XLSTMStack(8, "mm", num_heads=2, mlstm_block="large")
    return XLSTMStack(8, "ms", num_heads=2, chunk_size=4)


class _Step(nn.Module):
    def __init__(self, stack: XLSTMStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x, state):
        return self.stack.step(x, state)


def _assert_same(one, other) -> None:
    torch.testing.assert_close(one[0], other[0])
    for (name, a), (_, b) in zip(named_tensors(one[1]), named_tensors(other[1]), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_forward_compiles_into_one_graph_with_gradients(stack):
    x = torch.randn(3, 4, 8)
    mask = lengths_to_mask(torch.tensor([4, 3, 1]), 4)
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    expected = stack(x, mask=mask)
    result = compiled(x, mask=mask)
    _assert_same(result, expected)
    names = [n for n, _ in stack.named_parameters()]
    weight = torch.randn_like(x)
    gradients = [
        torch.autograd.grad((y * weight).sum(), list(stack.parameters()))
        for y in (result[0], expected[0])
    ]
    for name, a, b in zip(names, *gradients, strict=True):
        torch.testing.assert_close(a, b, msg=name, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_step_compiles_into_one_graph(stack):
    x = torch.randn(3, 8)
    compiled = torch.compile(stack.step, backend="eager", fullgraph=True)
    state = own = stack.initial_state(3)
    for _ in range(3):
        result, expected = compiled(x, state), stack.step(x, own)
        _assert_same(result, expected)
        state, own = result[1], expected[1]


def test_recommender_compiles_into_one_graph():
    stack = XLSTMStack(8, "ms", num_heads=2)
    model = SequenceRecommender(
        20, stack, 8, time_gaps=True, positions="sinusoidal", pooling="attention"
    )
    items = torch.tensor([[3, 4, 5], [7, 0, 0]])
    times = torch.arange(6).reshape(2, 3) * 10**9
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(items, times=times), model(items, times=times))


def test_forward_exports_for_any_batch_size(stack):
    x, mask = torch.randn(3, 6, 8), torch.ones(3, 6, dtype=torch.bool)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        stack, (x,), {"mask": mask}, dynamic_shapes={"x": {0: batch}, "mask": {0: batch}}
    )
    other = torch.randn(5, 6, 8)
    other_mask = lengths_to_mask(torch.tensor([6, 1, 2, 3, 4]), 6)
    _assert_same(program.module()(other, mask=other_mask), stack(other, mask=other_mask))


@torch.no_grad()
def test_step_exports(stack):
    x = torch.randn(3, 8)
    _, state = stack(torch.randn(3, 4, 8))
    program = torch.export.export(_Step(stack), (x, state))
    other = torch.randn(3, 8)
    _, later = stack(torch.randn(3, 4, 8))
    _assert_same(program.module()(other, later), stack.step(other, later))


class _OnRealPositions(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x, mask):
        return self.layer(x[mask])


@pytest.mark.parametrize("kind", [FeatureNorm, GatedFeedForward])
def test_layers_export_on_as_many_positions_as_there_are(kind):
    model = _OnRealPositions(kind(8))
    x, mask = torch.randn(2, 3, 8), torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    exported = torch.export.export(model, (x, mask)).module()
    torch.testing.assert_close(exported(x, ~mask), model(x, ~mask))
