"""Both cells under ``torch.compile``, ``torch.export`` and function transforms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model.cells import (
    MLSTMState,
    SLSTMState,
    mlstm_chunkwise,
    mlstm_step,
    slstm_sequence,
    slstm_step,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _mlstm(q, k, v, i, f, c, n, m, mask):
    h, state = mlstm_chunkwise(q, k, v, i, f, state=MLSTMState(c, n, m), mask=mask, chunk_size=4)
    return h, *state


def _fresh_mlstm(q, k, v, i, f, c, n, m, mask):
    return _mlstm_flat(mlstm_chunkwise(q, k, v, i, f, mask=mask, chunk_size=4))


def _mlstm_flat(result):
    return result[0], *result[1]


def _slstm(gates, weight, bias, h, c, n, m, mask):
    outputs, state = slstm_sequence(gates, weight, bias, state=SLSTMState(h, c, n, m), mask=mask)
    return outputs, *state


def _mlstm_step(q, k, v, i, f, c, n, m):
    h, state = mlstm_step(q, k, v, i, f, MLSTMState(c, n, m))
    return h, *state


def _slstm_step(gates, weight, bias, h, c, n, m):
    outputs, state = slstm_step(gates, weight, bias, SLSTMState(h, c, n, m))
    return outputs, *state


class _Module(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.fixture(params=["mlstm", "fresh mlstm", "slstm", "mlstm step", "slstm step"])
def case(request, mlstm_inputs, slstm_inputs, some_state):
    """A cell as a function of tensors, leaves that want a gradient, and the mask if it has one."""
    cell, _, kind = request.param.rpartition(" ")
    if kind == "step":
        if cell == "mlstm":
            inputs = [x[:, :, 0].detach().requires_grad_() for x in mlstm_inputs()]
            return _mlstm_step, [*inputs, *some_state("mlstm", 2, 2, 3, 4)], []
        gates, *weights = slstm_inputs()
        inputs = [gates[:, 0].detach().requires_grad_(), *weights]
        return _slstm_step, [*inputs, *some_state("slstm", 2, 2, 3)], []
    mask = [torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) < 0.7]
    if kind == "slstm":
        return _slstm, [*slstm_inputs(), *some_state("slstm", 2, 2, 3, empty_sample=1)], mask
    state = some_state("mlstm", 2, 2, 3, 4, empty_sample=1)
    function = _fresh_mlstm if cell == "fresh" else _mlstm
    return function, [*mlstm_inputs(), *state], mask


def _grads(results, leaves):
    total = sum((x * x).sum() for x in results[:3])
    return torch.autograd.grad(total, leaves, allow_unused=True)


def _assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        if a is None or b is None:
            # A tensor that is not used has no gradient for one and zeros for the other.
            assert all(x is None or not x.any() for x in (a, b))
            continue
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_compiles_into_one_graph_with_its_gradients(case):
    function, leaves, mask = case
    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    actual, expected = compiled(*leaves, *mask), function(*leaves, *mask)
    _assert_same(actual, expected)
    _assert_same(_grads(actual, leaves), _grads(expected, leaves))
    torch.compiler.reset()


def test_other_lengths_and_batches_need_no_third_graph(mlstm_inputs, slstm_inputs):
    torch.compiler.reset()
    counter = torch._dynamo.testing.CompileCounter()

    def both(q, k, v, i, f, gates, weight, bias):
        h, _ = mlstm_chunkwise(q, k, v, i, f, chunk_size=4)
        return h, slstm_sequence(gates, weight, bias)[0]

    compiled = torch.compile(both, backend=counter, fullgraph=True)
    with torch.no_grad():
        for B, S in [(2, 9), (3, 13), (4, 21), (5, 30)]:
            inputs = [*mlstm_inputs(B=B, S=S), *slstm_inputs(B=B, S=S)]
            _assert_same(compiled(*inputs), both(*inputs))
    assert counter.frame_count <= 2
    torch.compiler.reset()


def test_exported_program_gives_the_same_without_our_operators(case):
    function, leaves, mask = case
    inputs = (*(x.detach() for x in leaves), *mask)
    program = torch.export.export(_Module(function), inputs)
    assert "xlstm_model" not in str(program.graph)
    others = [x.detach() * 1.5 for x in leaves] + [~x for x in mask]
    _assert_same(program.module()(*others), function(*others))


def test_gradients_under_function_transforms(case):
    function, leaves, mask = case
    data = [x.detach() for x in leaves]

    def loss(*inputs):
        return sum((x * x).sum() for x in function(*inputs, *mask)[:3])

    numbers = tuple(range(len(data)))
    expected = _grads(function(*leaves, *mask), leaves)
    _assert_same(torch.func.grad(loss, numbers)(*data), expected)


def test_vmap_over_ensembles(case):
    function, leaves, mask = case
    data = [torch.stack([x.detach(), x.detach() * 0.5]) for x in leaves]
    actual = torch.func.vmap(lambda *inputs: function(*inputs, *mask))(*data)
    for member in range(2):
        expected = function(*(x[member] for x in data), *mask)
        _assert_same([x[member] for x in actual], expected)


def test_operators_pass_torchs_own_checks(mlstm_inputs, slstm_inputs, some_state):
    mask = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    inputs = [*mlstm_inputs(dtype=torch.float64), *some_state("mlstm", 2, 2, 3, 4)]
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.xlstm_model.mlstm_chunkwise.default, (*inputs, mask, 0.0, 3), test_utils=checks
    )
    inputs = [*slstm_inputs(), *some_state("slstm", 2, 2, 3)]
    torch.library.opcheck(
        torch.ops.xlstm_model.slstm_sequence.default, (*inputs, mask, False), test_utils=checks
    )
