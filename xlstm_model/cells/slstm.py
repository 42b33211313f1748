"""The sLSTM cell over a sequence; see ``slstm_step`` for the equations."""

from __future__ import annotations

from torch import Tensor

from xlstm_model.cells.checks import check_mask
from xlstm_model.cells.reference import slstm_reference
from xlstm_model.cells.slstm_op import slstm_sequence_op
from xlstm_model.cells.slstm_step import GateKind, check_slstm
from xlstm_model.cells.states import SLSTMState, compute_dtype, empty_slstm_state
from xlstm_model.kernels import slstm as slstm_kernels
from xlstm_model.tracing import must_be_visible


def slstm_sequence(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    *,
    state: SLSTMState | None = None,
    mask: Tensor | None = None,
    gate: GateKind = "exp",
) -> tuple[Tensor, SLSTMState]:
    """Whole sequence, forward and backward linear in its length.

    Args:
        gates_preact: Input's share of the gates (B, S, 4, NH, DH), order i, f, z, o, any strides,
            any finite numbers, S ≥ 1.
        recurrent_weight: (NH, DH of the previous output, 4, DH), heads do not mix.
        bias: (NH, 4, DH).
        state: What an earlier call returned; empty when absent.
        mask: Bool (B, S), True = real; all real when absent. A padded position, wherever it stands
            and whatever it holds, leaves the state as it was, and its output is 0.
        gate: Input gate, ``"exp"`` as published or ``"sigmoid"``.

    Returns:
        h (B, S, NH, DH) in the dtype of the gates, and the state after the last real position of
        each sample. Half precisions are calculated, and the state kept, in float32.

    Raises:
        ValueError: If a shape does not fit or the gate is unknown.
        TypeError: If the mask is not bool.

    >>> import torch
    >>> h, state = slstm_sequence(
    ...     torch.zeros(2, 5, 4, 3, 8), torch.zeros(3, 8, 4, 8), torch.zeros(3, 4, 8)
    ... )
    >>> h.shape, state.c.shape
    (torch.Size([2, 5, 3, 8]), torch.Size([2, 3, 8]))
    """
    check_slstm(gates_preact, recurrent_weight, bias, state, gate, ("B", "S", "4", "NH", "DH"))
    B, S, _, NH, DH = gates_preact.shape
    check_mask(mask, B, S)
    if must_be_visible():
        return slstm_reference(
            gates_preact, recurrent_weight, bias, state=state, mask=mask, gate=gate
        )
    if slstm_kernels.fits(gates_preact, recurrent_weight, bias):
        h, *end = slstm_kernels.slstm(
            gates_preact, recurrent_weight, bias, state, mask, gate == "sigmoid"
        )
        return h, SLSTMState(*end)
    if state is None:
        dtype = compute_dtype(gates_preact.dtype)
        state = empty_slstm_state(B, NH, DH, device=gates_preact.device, dtype=dtype)
    h, *end = slstm_sequence_op(
        gates_preact, recurrent_weight, bias, *state, mask, gate == "sigmoid"
    )
    return h, SLSTMState(*end[:4])
