"""The sLSTM over a sequence as one operator of PyTorch, with its gradient.

Being an operator, it is one node to ``torch.compile``, which would unroll its loop otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlstm_model.cells.slstm_passes import Saved, backward_pass, forward_pass
from xlstm_model.cells.states import compute_dtype
from xlstm_model.tracing import refuse_double_backward


@torch.library.custom_op(
    "xlstm_model::slstm_sequence",
    mutates_args=(),
    schema=(
        "(Tensor gates_preact, Tensor recurrent_weight, Tensor bias, Tensor h, Tensor c, "
        "Tensor n, Tensor m, Tensor? mask, bool sigmoid) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def slstm_sequence_op(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    h: Tensor,
    c: Tensor,
    n: Tensor,
    m: Tensor,
    mask: Tensor | None,
    sigmoid: bool,
) -> tuple[Tensor, ...]:
    """See ``forward_pass``; returns outputs, final h, c, n, m and the fields of ``Saved``."""
    with torch.autocast(gates_preact.device.type, enabled=False):
        outputs, saved = forward_pass(
            gates_preact, recurrent_weight, bias, (h, c, n, m), mask, sigmoid
        )
    last = (x[-1].transpose(0, 1).clone(memory_format=torch.contiguous_format) for x in saved[2:])
    return outputs, *last, *saved


@slstm_sequence_op.register_fake
def _(gates_preact, recurrent_weight, bias, h, c, n, m, mask, sigmoid):  # type: ignore[no-untyped-def]
    B, S, _, NH, DH = gates_preact.shape
    dtype = compute_dtype(gates_preact.dtype)
    shapes = [(B, NH, DH)] * 4 + [(S, NH, B, 4, DH), (NH, DH, 4 * DH)] + [(S + 1, NH, B, DH)] * 4
    return (
        gates_preact.new_empty(B, S, NH, DH),
        *(gates_preact.new_empty(shape, dtype=dtype) for shape in shapes),
    )


@torch.library.custom_op(
    "xlstm_model::slstm_sequence_backward",
    mutates_args=(),
    schema=(
        "(Tensor[] saved, Tensor? mask, bool sigmoid, Tensor? grad_outputs, Tensor? grad_h, "
        "Tensor? grad_c, Tensor? grad_n, Tensor? grad_m) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def slstm_sequence_backward_op(
    saved: list[Tensor],
    mask: Tensor | None,
    sigmoid: bool,
    grad_outputs: Tensor | None,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    grad_n: Tensor | None,
    grad_m: Tensor | None,
) -> tuple[Tensor, ...]:
    """See ``backward_pass``."""
    with torch.autocast(saved[0].device.type, enabled=False):
        grads = backward_pass(
            Saved(*saved), mask, sigmoid, grad_outputs, (grad_h, grad_c, grad_n, grad_m)
        )
    # The largest stays in the order of the loop, which spares a copy; see the strides below.
    return grads[0], *(x.clone(memory_format=torch.contiguous_format) for x in grads[1:])


@slstm_sequence_backward_op.register_fake
def _(saved, mask, sigmoid, grad_outputs, grad_h, grad_c, grad_n, grad_m):  # type: ignore[no-untyped-def]
    raw = saved[0]
    S, NH, B, _, DH = raw.shape
    shapes = [(NH, DH, 4, DH), (NH, 4, DH)] + [(B, NH, DH)] * 4
    by_time = raw.new_empty(S, NH, B, 4, DH).permute(2, 0, 3, 1, 4)
    return by_time, *(raw.new_empty(shape) for shape in shapes)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[7], *output[5:])
    ctx.sigmoid = inputs[8]
    ctx.dtypes = [x.dtype for x in inputs[:7]]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    refuse_double_backward("xlstm_model.cells.slstm_reference")
    mask, *saved = ctx.saved_tensors
    results = slstm_sequence_backward_op(saved, mask, ctx.sigmoid, *grads[:5])
    cast = (x.to(dtype) for x, dtype in zip(results, ctx.dtypes, strict=True))
    return *cast, None, None


slstm_sequence_op.register_autograd(_backward, setup_context=_setup_context)
