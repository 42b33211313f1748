"""Both cells against frozen vectors of the authors' package (xlstm 2.0.6, float64)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlstm_model.cells import (
    MLSTMState,
    SLSTMState,
    empty_mlstm_state,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_reference,
    slstm_reference,
    slstm_sequence,
)

EPS = 1e-6
MLSTM = ["mlstm_cell_a", "mlstm_cell_b"]
SLSTM = ["slstm_cell_a", "slstm_cell_b", "slstm_cell_d"]


@pytest.fixture(scope="module")
def vectors(repository: Path) -> dict[str, torch.Tensor]:
    with np.load(repository / "tests" / "golden" / "authors_cells.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def test_the_frozen_copy_is_the_shared_original(vectors, shared_dir):
    with np.load(shared_dir / "parity" / "reference.npz") as file:
        wanted = {n for n in file.files if n.split(".")[0] in {*MLSTM, *SLSTM}}
        assert set(vectors) == wanted
        for name in wanted:
            assert np.array_equal(vectors[name].numpy(), file[name]), name


def _mlstm_inputs(vectors, case):
    return [vectors[f"{case}.in.{name}"].clone().requires_grad_() for name in "qkvif"]


def _assert_close(actual, expected, tolerance, name=None):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance, msg=name)


MLSTM_FORMS = [
    (mlstm_parallel, {}),
    (mlstm_chunkwise, {"chunk_size": 8}),
    (mlstm_chunkwise, {"chunk_size": 5}),
    (mlstm_reference, {}),
]


@pytest.mark.parametrize(("form", "arguments"), MLSTM_FORMS)
@pytest.mark.parametrize("case", MLSTM)
def test_mlstm_outputs_gradients_and_states(vectors, case, form, arguments):
    inputs = _mlstm_inputs(vectors, case)
    h, state = form(*inputs, eps=EPS, **arguments)
    _assert_close(h, vectors[f"{case}.h_parallel"], 1e-9)
    h.backward(vectors[f"{case}.cotangent_h"])
    for name, leaf in zip("qkvif", inputs, strict=True):
        _assert_close(leaf.grad, vectors[f"{case}.grad.{name}"], 1e-9, name)
    scale = state.m.exp()
    _assert_close(state.c * scale[..., None, None], vectors[f"{case}.state.C_true"], 1e-9)
    _assert_close(state.n * scale[..., None], vectors[f"{case}.state.n_true"], 1e-9)


@pytest.mark.parametrize(("form", "arguments"), MLSTM_FORMS)
@pytest.mark.parametrize("case", MLSTM)
def test_mlstm_without_eps_differs_by_no_more_than_eps_does(
    vectors, assert_close, case, form, arguments
):
    inputs = _mlstm_inputs(vectors, case)
    h, _ = form(*inputs, **arguments)
    assert_close([h], [vectors[f"{case}.h_parallel"]], 1e-5)
    grads = torch.autograd.grad(h, inputs, vectors[f"{case}.cotangent_h"])
    # Where numerator and denominator pull apart, eps moves gradients more than outputs.
    assert_close(grads, [vectors[f"{case}.grad.{name}"] for name in "qkvif"], 1e-3)


@pytest.mark.parametrize("form", [mlstm_chunkwise, mlstm_reference])
@pytest.mark.parametrize("case", MLSTM)
def test_mlstm_from_their_initial_scale_equals_their_recurrent_form(vectors, case, form):
    inputs = _mlstm_inputs(vectors, case)
    B, NH, _, DH = inputs[0].shape
    empty = empty_mlstm_state(B, NH, DH, DH, dtype=torch.float64)
    start = MLSTMState(empty.c, empty.n, torch.zeros_like(empty.m))
    h, state = form(*inputs, state=start, eps=EPS)
    _assert_close(h, vectors[f"{case}.h_recurrent"], 1e-9)
    _assert_close(state.c, vectors[f"{case}.state.C"], 1e-9)
    _assert_close(state.n, vectors[f"{case}.state.n"], 1e-9)
    _assert_close(state.m, vectors[f"{case}.state.m"], 1e-9)
    if f"{case}.h_chunkwise8" in vectors:
        _assert_close(h, vectors[f"{case}.h_chunkwise8"], 1e-9)


@pytest.mark.parametrize("case", MLSTM)
def test_mlstm_stabiliser_after_every_position(vectors, case):
    inputs = [x.detach() for x in _mlstm_inputs(vectors, case)]
    trace = vectors[f"{case}.m_trace"]
    B, NH, _, DH = inputs[0].shape
    state = empty_mlstm_state(B, NH, DH, DH, dtype=torch.float64)
    state = MLSTMState(state.c, state.n, torch.zeros_like(state.m))
    for t in range(trace.shape[-1]):
        _, state = mlstm_chunkwise(*(x[:, :, t : t + 1] for x in inputs), state=state)
        _assert_close(state.m, trace[..., t], 1e-12)


@pytest.mark.parametrize("form", [slstm_sequence, slstm_reference])
@pytest.mark.parametrize("case", SLSTM)
def test_slstm_outputs_gradients_and_states(vectors, case, form):
    names = ["in.gates", "R", "b"]
    leaves = [vectors[f"{case}.{name}"].clone().requires_grad_() for name in names]
    targets = ["grad.gates", "grad.R", "grad.b"]
    start = None
    if f"{case}.state0" in vectors:
        start = vectors[f"{case}.state0"].clone().requires_grad_()
    state = None if start is None else SLSTMState(*start)
    h, end = form(*leaves, state=state)
    _assert_close(h.transpose(1, 2), vectors[f"{case}.h"], 1e-9)
    _assert_close(torch.stack(end), vectors[f"{case}.state"], 1e-9)
    h.backward(vectors[f"{case}.cotangent_h"].transpose(1, 2))
    if start is not None:
        leaves, targets = [*leaves, start], [*targets, "grad.state0"]
    for leaf, target in zip(leaves, targets, strict=True):
        _assert_close(leaf.grad, vectors[f"{case}.{target}"], 1e-9, target)
