"""An mLSTM block, and an sLSTM block's first half, in one compiled pass against their layers."""

from __future__ import annotations

import pytest
import torch

from xlstm_model import XLSTMStack
from xlstm_model.native import library
from xlstm_model.state import detach_state, named_tensors

pytestmark = pytest.mark.skipif(
    library.load_library() is None,
    reason="the compiled kernels are absent; run `python -m xlstm_model.native.build`",
)

PASSES = {
    "m": ["mlstm_block_forward", "mlstm_block_backward"],
    "s": ["slstm_block_forward", "slstm_block_backward"],
}
COMMON = {
    "published": {},
    "sigmoid gate": {"gate": "sigmoid"},
    "no norm": {"norm": False},
    "no convolution": {"convolution": False},
    "no residual": {"residual": False},
    "one tap": {"conv_kernel": 1},
    "seven taps": {"conv_kernel": 7},
}
OWN = {
    "m": {"short chunks": {"chunk_size": 7}, "one chunk": {"mlstm_form": "parallel"}},
    "s": {
        "all gates convolved": {"slstm_conv_gates": "ifzo"},
        "no feed-forward layer": {"slstm_feed_forward": False},
        "heads of one unit": {"num_heads": 20},
    },
}
CASES = [
    pytest.param(kind, settings, id=f"{kind}, {name}")
    for kind in PASSES
    for name, settings in {**COMMON, **OWN[kind]}.items()
]
both = pytest.mark.parametrize("kind", PASSES)


def _passes(calls):
    """The kernels that ran, without those of the sLSTM block's second half."""
    return [name for name in calls if not name.startswith("feed_forward")]


def _stack(kind, **settings):
    torch.manual_seed(0)
    stack = XLSTMStack(20, kind, **({"num_heads": 2} | settings))
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return stack


def _run(stack, x, mask=None, state=None, through_state=False):
    """Outputs and final state, then gradients of x and of the weights."""
    x = x.clone().requires_grad_()
    y, after = stack(x, mask=mask, state=state)
    # The stabiliser of the mLSTM has no gradient of its own.
    is_matrix = stack.pattern == "m"
    ends = {name: t for name, t in named_tensors(after) if not (is_matrix and name.endswith(".m"))}
    results = [y, *ends.values()] if through_state else [y]
    rng = torch.Generator().manual_seed(1)
    ups = [torch.randn(t.shape, generator=rng).to(t.dtype) for t in results]
    leaves = dict(stack.named_parameters()) | {"x": x}
    grads = torch.autograd.grad(results, leaves.values(), ups)
    return {"y": y, **ends, **dict(zip(leaves, grads, strict=True))}


def _assert_equal(actual, expected):
    for name, a in actual.items():
        b = expected[name].to(a.dtype)
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-2) if b.numel() else 0.0
        assert error < 3e-4, f"{name}: {error:.1e}"


@pytest.mark.parametrize("started", [False, True], ids=["from empty", "from a state"])
@pytest.mark.parametrize("share", [1.1, 0.7, 0.05], ids=["all real", "some real", "few real"])
@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_equals_the_layers(kind, settings, width, share, started, calls):
    library.load_library().xlstm_restrict_vectors(width)
    stack, x = _stack(kind, **settings), torch.randn(3, 70, 20)
    mask = torch.rand(3, 70) < share
    x = torch.where(mask[..., None], x, float("nan"))
    state = detach_state(stack(torch.randn(3, 5, 20))[1]) if started else None
    calls.clear()
    actual = _run(stack, x, mask, state)
    assert _passes(calls) == PASSES[kind]
    with library.disabled():
        expected = _run(stack, x, mask, state)
    _assert_equal(actual, expected)


@pytest.mark.parametrize("batch_size", [1, 16, 19])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 64, 65, 130])
@both
def test_any_size_without_a_mask(kind, length, batch_size, calls):
    stack, x = _stack(kind), torch.randn(batch_size, length, 20)
    actual = _run(stack, x)
    assert _passes(calls) == PASSES[kind]
    with library.disabled():
        expected = _run(stack, x)
    _assert_equal(actual, expected)


@both
def test_numbers_agree_with_double_precision(kind):
    stack, x = _stack(kind), torch.randn(2, 40, 20)
    actual = _run(stack, x)
    _assert_equal(actual, _run(stack.double(), x.double()))


@both
def test_gradients_reach_the_final_state(kind, calls):
    stack, x, mask = _stack(kind), torch.randn(3, 9, 20), torch.rand(3, 9) < 0.7
    actual = _run(stack, x, mask, through_state=True)
    assert calls[0] == PASSES[kind][0]
    with library.disabled():
        expected = _run(stack, x, mask, through_state=True)
    _assert_equal(actual, expected)


@both
def test_gradients_of_an_initial_state_go_through_the_layers(kind, calls):
    stack, x = _stack(kind), torch.randn(2, 9, 20)
    _, state = stack(torch.randn(2, 5, 20))
    calls.clear()
    y, _ = stack(x, state=state)
    assert not any("block" in name for name in calls)
    y.sum().backward()
    learned = _stack(kind, learned_initial_state=True)
    learned(x)[0].sum().backward()
    assert learned.blocks[0].recurrence.initial_c.grad.abs().max() > 0


@both
def test_dropout_stands_before_the_residual(kind, calls):
    stack, x, mask = _stack(kind, dropout=0.4), torch.randn(3, 9, 20), torch.rand(3, 9) < 0.7
    torch.manual_seed(5)
    actual = _run(stack, x, mask)
    assert _passes(calls) == PASSES[kind]
    torch.manual_seed(5)
    with library.disabled():
        expected = _run(stack, x, mask)
    _assert_equal(actual, expected)


@both
def test_threads_change_nothing_but_sums(kind):
    stack, x = _stack(kind), torch.randn(7, 20, 20)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(_run(stack, x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0]["y"], found[1]["y"])
    assert torch.equal(found[0]["x"], found[1]["x"])
    _assert_equal(*found)


@both
def test_other_samples_change_nothing(kind):
    stack, x = _stack(kind), torch.randn(19, 9, 20)
    mask = torch.rand(19, 9) < 0.7
    whole = stack(x, mask=mask)[0]
    for row in (0, 15, 16, 18):
        alone = stack(x[row : row + 1], mask=mask[row : row + 1])[0]
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-6)


@both
def test_samples_without_real_positions_keep_their_state(kind):
    stack, x = _stack(kind), torch.full((3, 4, 20), float("nan"))
    mask = torch.zeros(3, 4, dtype=torch.bool)
    state = detach_state(stack(torch.randn(3, 5, 20))[1])
    y, after = stack(x, mask=mask, state=state)
    assert not y.any()
    before, after = dict(named_tensors(state)), dict(named_tensors(after))
    assert all(torch.equal(after[name], before[name]) for name in before)


@both
def test_refuses_to_be_differentiated_twice(kind):
    stack, x = _stack(kind), torch.randn(2, 5, 20, requires_grad=True)
    y, _ = stack(x)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize("change", ["hook", "class"])
@both
def test_what_is_put_in_place_of_the_cell_runs(kind, change, calls):
    stack, x = _stack(kind), torch.randn(2, 5, 20)
    cell = stack.blocks[0].recurrence
    plain = stack(x)[0]
    if change == "hook":
        cell.register_forward_hook(lambda module, args, output: (0 * output[0], output[1]))
    else:

        class Silent(type(cell)):
            def forward(self, *args, **named):
                h, state = super().forward(*args, **named)
                return 0 * h, state

        cell.__class__ = Silent
    calls.clear()
    assert not torch.allclose(stack(x)[0], plain)
    assert PASSES[kind][0] not in calls
