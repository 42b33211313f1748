"""Padding, pieces and resets, for both cells: what is real alone decides outputs and states."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlstm_model.cells import (
    empty_mlstm_state,
    empty_slstm_state,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_step,
    slstm_sequence,
    slstm_step,
)
from xlstm_model.state import replace_samples, reset_state

B, S, NH, DH = 3, 13, 2, 3
FORMS = ["parallel", "chunkwise", "slstm"]
MASKS = {
    "right": [[1] * 13, [1] * 5 + [0] * 8, [1] * 8 + [0] * 5],
    "left": [[1] * 13, [0] * 8 + [1] * 5, [0] * 5 + [1] * 8],
    "holes": [[1, 0] * 6 + [1], [0] * 13, [0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0]],
}


class Cell:
    """One form of a cell with fixed inputs, time second, so that the tests read alike."""

    def __init__(self, form: str) -> None:
        self.form = form
        rng = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)  # noqa: E731
        if form == "slstm":
            self.inputs = [draw(B, S, 4, NH, DH)]
            self.weights = [draw(NH, DH, 4, DH), draw(NH, 4, DH)]
            self.empty = empty_slstm_state(B, NH, DH, dtype=torch.float64)
        else:
            self.inputs = [draw(B, S, NH, DH) for _ in "qkv"] + [draw(B, S, NH) for _ in "if"]
            self.weights = []
            self.empty = empty_mlstm_state(B, NH, DH, DH, dtype=torch.float64)

    def run(self, inputs, state=None, mask=None):
        """Outputs (B, S, NH, DH) and the state after."""
        if self.form == "slstm":
            return slstm_sequence(*inputs, *self.weights, state=state, mask=mask)
        cell = mlstm_parallel if self.form == "parallel" else mlstm_chunkwise
        chunks = {} if self.form == "parallel" else {"chunk_size": 4}
        heads_first = [x.transpose(1, 2) for x in inputs]
        h, state = cell(*heads_first, state=state, mask=mask, **chunks)
        return h.transpose(1, 2), state

    def step(self, inputs, state):
        """Outputs (B, NH, DH) and the state after."""
        if self.form == "slstm":
            return slstm_step(*inputs, *self.weights, state)
        return mlstm_step(*inputs, state)


@pytest.fixture(params=FORMS)
def cell(request) -> Cell:
    return Cell(request.param)


def _check_state(actual, expected, sample=slice(None)):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a[sample], b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("started", [False, True])
def test_padding_is_as_if_it_were_not_there(cell, kind, started):
    mask = torch.tensor(MASKS[kind], dtype=torch.bool)
    state = cell.run(cell.inputs)[1] if started else None
    h, end = cell.run(cell.inputs, state, mask)
    assert torch.equal(h[~mask], torch.zeros_like(h[~mask]))
    for b in range(B):
        own = None if state is None else type(state)(*(x[b : b + 1] for x in state))
        real = [x[b : b + 1, mask[b]] for x in cell.inputs]
        if not mask[b].any():
            before = cell.empty if state is None else state
            _check_state(end, [x[b] for x in before], b)
            continue
        expected, expected_end = cell.run(real, own)
        torch.testing.assert_close(h[b, mask[b]], expected[0], atol=1e-12, rtol=1e-12)
        _check_state(end, [x[0] for x in expected_end], b)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30])
def test_content_of_padding_reaches_no_value_and_no_gradient(cell, kind, junk):
    mask = torch.tensor(MASKS[kind], dtype=torch.bool)

    def run(filling):
        inputs = [x.clone() for x in cell.inputs]
        for x in inputs:
            x[~mask] = filling
            x.requires_grad_()
        weights = [w.clone().requires_grad_() for w in cell.weights]
        cell.weights, kept = weights, cell.weights
        h, end = cell.run(inputs, None, mask)
        cell.weights = kept
        upstream = torch.cos(torch.arange(h.numel(), dtype=torch.float64)).view_as(h).clone()
        upstream[~mask] = filling
        loss = [(h, upstream), (end[0], torch.ones_like(end[0]))]
        leaves = inputs + weights
        grads = torch.autograd.grad([x for x, _ in loss], leaves, [g for _, g in loss])
        return [h, *end, *grads], grads[: len(inputs)]

    clean, _ = run(0.0)
    dirty, grads = run(junk)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)
    for grad in grads:
        assert torch.equal(grad[~mask], torch.zeros_like(grad[~mask]))


def test_pieces_and_steps_equal_the_whole(cell):
    whole, end = cell.run(cell.inputs)
    state, outputs = None, []
    for start, stop in [(0, 1), (1, 6), (6, 10)]:
        h, state = cell.run([x[:, start:stop] for x in cell.inputs], state)
        outputs.append(h)
    for t in range(10, S):
        h, state = cell.step([x[:, t] for x in cell.inputs], state)
        outputs.append(h.unsqueeze(1))
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=1e-12, rtol=1e-12)
    _check_state(state, list(end))


def test_gradients_flow_through_steps_and_pieces(cell):
    def grads(pieces):
        inputs = [x.clone().requires_grad_() for x in cell.inputs]
        state, total = None, 0.0
        for start, stop in pieces:
            if stop - start == 1 and state is not None:
                h, state = cell.step([x[:, start] for x in inputs], state)
            else:
                h, state = cell.run([x[:, start:stop] for x in inputs], state)
            total = total + (h**2).sum()
        return torch.autograd.grad(total, inputs)

    whole = grads([(0, S)])
    for pieces in ([(0, 6), (6, S)], [(t, t + 1) for t in range(S)]):
        for a, b in zip(grads(pieces), whole, strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


def test_neither_form_changes_what_it_is_given(cell):
    _, state = cell.run(cell.inputs)
    given = [*cell.inputs, *cell.weights, *state]
    before = [x.clone() for x in given]
    inputs = [x.clone().requires_grad_() for x in cell.inputs]
    h, _ = cell.run(inputs, state, torch.tensor(MASKS["holes"], dtype=torch.bool))
    h.sum().backward()
    cell.step([x[:, 0] for x in cell.inputs], state)
    for x, y in zip([*given, *inputs], [*before, *before[: len(inputs)]], strict=True):
        assert torch.equal(x, y)


def test_some_samples_reset_and_others_not(cell):
    _, state = cell.run(cell.inputs)
    where = torch.tensor([True, False, True])
    mixed, _ = cell.run(cell.inputs, reset_state(state, where))
    fresh, _ = cell.run(cell.inputs)
    carried, _ = cell.run(cell.inputs, state)
    torch.testing.assert_close(mixed[where], fresh[where], atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(mixed[~where], carried[~where], atol=1e-13, rtol=1e-13)
    stepped, _ = cell.step([x[:, 0] for x in cell.inputs], reset_state(state, where))
    torch.testing.assert_close(stepped, mixed[:, 0], atol=1e-13, rtol=1e-13)


def test_samples_do_not_see_each_other(cell):
    changed = [x.clone() for x in cell.inputs]
    for x in changed:
        x[1] = 7.0
    _, state = cell.run(cell.inputs)
    other = replace_samples(state, cell.empty, torch.tensor([False, True, False]))
    one, other = cell.run(cell.inputs, state), cell.run(changed, other)
    for a, b in [(one[0], other[0]), *zip(one[1], other[1], strict=True)]:
        assert torch.equal(a[[0, 2]], b[[0, 2]])


@settings(max_examples=30, deadline=None)
@given(form=st.sampled_from(FORMS), position=st.integers(0, S - 1), kick=st.floats(-50, 50))
def test_no_position_sees_its_future(form, position, kick):
    cell = Cell(form)
    changed = [x.clone() for x in cell.inputs]
    for x in changed:
        x[:, position:] += kick
    before, after = cell.run(cell.inputs)[0], cell.run(changed)[0]
    torch.testing.assert_close(before[:, :position], after[:, :position], atol=1e-13, rtol=1e-13)
