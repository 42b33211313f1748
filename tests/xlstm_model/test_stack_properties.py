"""Property-based: any shape, mask and chunk size."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlstm_model import XLSTMStack
from xlstm_model.state import named_tensors

FAST = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def cases(draw):
    """A small stack, a batch, and which positions are real."""
    heads = draw(st.integers(1, 3))
    dim = heads * draw(st.integers(1, 4))
    torch.manual_seed(draw(st.integers(0, 99)))
    stack = XLSTMStack(
        dim,
        draw(st.sampled_from(["m", "s", "ms", "sm"])),
        num_heads=heads,
        inner_multiple=heads * draw(st.integers(1, 3)),
        mlstm_qkv_block_size=1,
        conv_kernel=draw(st.integers(1, 5)),
        chunk_size=draw(st.integers(1, 9)),
        gate=draw(st.sampled_from(["exp", "sigmoid"])),
        slstm_conv_gates=draw(st.sampled_from(["if", "ifzo"])),
    ).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch, seq_len = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    mask = torch.tensor(
        draw(
            st.lists(
                st.lists(st.booleans(), min_size=seq_len, max_size=seq_len),
                min_size=batch,
                max_size=batch,
            )
        )
    )
    return stack, torch.randn(batch, seq_len, dim, dtype=torch.float64), mask


@FAST
@given(cases())
def test_steps_equal_the_whole(case):
    stack, x, _ = case
    state, outputs = stack.initial_state(x.shape[0]), []
    for position in range(x.shape[1]):
        y, state = stack.step(x[:, position], state)
        outputs.append(y)
    whole, whole_state = stack(x)
    torch.testing.assert_close(torch.stack(outputs, 1), whole, atol=1e-9, rtol=0)
    for (name, a), (_, b) in zip(named_tensors(state), named_tensors(whole_state), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9, msg=name)


@FAST
@given(cases())
def test_masked_positions_are_as_if_they_were_not_there(case):
    stack, x, mask = case
    noisy = torch.where(mask[..., None], x, float("inf"))
    y, state = stack(noisy, mask=mask)
    for sample in range(x.shape[0]):
        if not mask[sample].any():
            assert y[sample].abs().max() == 0
            continue
        alone, own = stack(x[sample, mask[sample]][None])
        torch.testing.assert_close(y[sample, mask[sample]], alone[0], atol=1e-9, rtol=0)
        for (name, a), (_, b) in zip(named_tensors(state), named_tensors(own), strict=True):
            torch.testing.assert_close(a[sample], b[0], atol=1e-9, rtol=1e-9, msg=name)


@FAST
@given(cases(), st.integers(0, 14))
def test_pieces_equal_the_whole_with_any_mask(case, cut):
    stack, x, mask = case
    cut = min(max(cut, 1), x.shape[1] - 1)
    whole, _ = stack(x, mask=mask)
    if x.shape[1] == 1:
        assert whole.shape == x.shape
        return
    first, state = stack(x[:, :cut], mask=mask[:, :cut])
    second, _ = stack(x[:, cut:], mask=mask[:, cut:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-9, rtol=0)


@FAST
@given(cases(), st.integers(0, 13))
def test_the_future_has_no_effect(case, cut):
    stack, x, mask = case
    changed = x.clone()
    changed[:, cut + 1 :] = torch.randn_like(changed[:, cut + 1 :])
    before, after = (stack(v, mask=mask)[0][:, : cut + 1] for v in (x, changed))
    torch.testing.assert_close(before, after, atol=1e-12, rtol=0)
