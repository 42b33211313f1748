"""The kernels as operators of PyTorch, so that each is one node to ``torch.compile``.

Outside a compiler the autograd functions of the other modules launch the same kernels with less
work on the host.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlstm_model.kernels import cross_entropy, mlstm, slstm
from xlstm_model.kernels.mlstm_plan import FIELDS, gather_inputs, make_plan

_MLSTM = (
    "Tensor q, Tensor k, Tensor v, Tensor igate, Tensor fgate, Tensor? c, Tensor? n, Tensor? m, "
    "Tensor? mask"
)


@torch.library.custom_op(
    "xlstm_model::mlstm_gpu", mutates_args=(), schema=f"({_MLSTM}) -> Tensor[]"
)
def _mlstm(*arguments: Any) -> list[Tensor]:
    """Outputs, final c, n and m, and what the gradient needs."""
    return list(mlstm.forward(gather_inputs(*arguments), None))


@_mlstm.register_fake
def _(*arguments: Any) -> list[Tensor]:
    q, _, v, *_, c, _, _, _ = arguments
    (B, NH, S, DK), DV = q.shape, v.shape[-1]
    plan = make_plan(B * NH, S, DK, DV, q.dtype)
    N = -(-S // plan.length)
    stored = 0 if N == 1 and c is None and plan.carry else N

    def wide(*shape: int) -> Tensor:
        return q.new_empty(shape, dtype=torch.float32)

    return [
        v.new_empty(B, S, NH, DV).transpose(1, 2),
        wide(B, NH, DK, DV),
        wide(B, NH, DK),
        wide(B, NH),
        wide(B * NH, S),
        q.new_empty(B * NH, stored, DK, DV),
        wide(B * NH, stored, DK),
        wide(B * NH, FIELDS[q.dtype], N * plan.length),
        wide(B * NH, 2, N),
    ]


@torch.library.custom_op(
    "xlstm_model::mlstm_gpu_backward",
    mutates_args=(),
    schema=(
        f"({_MLSTM}, Tensor[] kept, Tensor? grad_h, Tensor? grad_c, Tensor? grad_n, "
        "Tensor? grad_m) -> Tensor[]"
    ),
)
def _mlstm_backward(*arguments: Any) -> list[Tensor]:
    """Gradients of the tensors given, those of an absent state as empty tensors."""
    inputs = gather_inputs(*arguments[:9])
    kept, grad_h, *grad_state = arguments[9:]
    h, end_c, end_n, _, *rest = kept
    last = end_c, end_n
    grads = mlstm.gradients(inputs, None, (h, *rest), last, grad_h, tuple(grad_state))
    return _typed(grads, arguments[:8])


@_mlstm_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    dense = [x.new_empty(x.transpose(1, 2).shape).transpose(1, 2) for x in arguments[:5]]
    state = (
        arguments[0].new_empty(0) if x is None else x.new_empty(x.shape) for x in arguments[5:8]
    )
    return [*dense, *state]


def _typed(grads: tuple[Tensor | None, ...], given: tuple[Tensor | None, ...]) -> list[Tensor]:
    """Each gradient in the dtype of what it belongs to, and contiguous where that is a state."""
    found = []
    for number, (grad, x) in enumerate(zip(grads, given, strict=True)):
        if grad is None or x is None:
            found.append(given[0].new_empty(0))
        else:
            grad = grad.to(x.dtype)
            found.append(grad if number < 5 else grad.contiguous())
    return found


def _keep_mlstm(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate_mlstm(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    found = _mlstm_backward(*saved[:9], list(saved[9:]), *grads[:4])
    return *(None if x is None else y for x, y in zip(saved[:8], found, strict=True)), None


_mlstm.register_autograd(_differentiate_mlstm, setup_context=_keep_mlstm)
mlstm_op = _mlstm

_SLSTM = (
    "Tensor gates, Tensor weight, Tensor bias, Tensor? h, Tensor? c, Tensor? n, Tensor? m, "
    "Tensor? mask, bool sigmoid"
)


@torch.library.custom_op(
    "xlstm_model::slstm_gpu", mutates_args=(), schema=f"({_SLSTM}) -> Tensor[]"
)
def _slstm(gates, weight, bias, h, c, n, m, mask, sigmoid) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """Outputs, final h, c, n and m, and what the gradient needs."""
    kind = slstm.kind_of(gates, weight, bias, mask, h is not None, sigmoid)
    return list(slstm.forward(kind, gates, weight, bias, (h, c, n, m), mask))


@_slstm.register_fake
def _(gates, weight, bias, h, c, n, m, mask, sigmoid) -> list[Tensor]:  # type: ignore[no-untyped-def]
    B, S, _, NH, DH = gates.shape
    shapes = [(B, NH, DH)] * 4 + [(S, NH, B, 4, DH)] + [(S + 1, NH, B, DH)] * 4
    wide = (gates.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return [gates.new_empty(B, S, NH, DH), *wide]


@torch.library.custom_op(
    "xlstm_model::slstm_gpu_backward",
    mutates_args=(),
    schema=(
        f"({_SLSTM}, Tensor[] kept, Tensor? grad_outputs, Tensor? grad_h, Tensor? grad_c, "
        "Tensor? grad_n, Tensor? grad_m) -> Tensor[]"
    ),
)
def _slstm_backward(*arguments: Any) -> list[Tensor]:
    """Gradients of the tensors given, those of an absent state as empty tensors."""
    gates, weight, bias, h, *_, mask, sigmoid, kept, grad_outputs = arguments[:11]
    kind = slstm.kind_of(gates, weight, bias, mask, h is not None, sigmoid)
    kept, grad_state = slstm.Kept(*kept), tuple(arguments[11:])
    grads = slstm.backward(kind, kept, weight, mask, grad_outputs, grad_state)
    return [
        gates.new_empty(0) if x is None else grad.to(x.dtype).contiguous()
        for grad, x in zip(grads, arguments[:7], strict=True)
    ]


@_slstm_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    gates = arguments[0]
    return [gates.new_empty(0) if x is None else x.new_empty(x.shape) for x in arguments[:7]]


def _keep_slstm(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs[:8], *output[5:])
    ctx.sigmoid = inputs[8]


def _differentiate_slstm(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    found = _slstm_backward(*saved[:8], ctx.sigmoid, list(saved[8:]), *grads[:5])
    given = (None if x is None else y for x, y in zip(saved[:7], found, strict=True))
    return *given, None, None


_slstm.register_autograd(_differentiate_slstm, setup_context=_keep_slstm)
slstm_op = _slstm


@torch.library.custom_op(
    "xlstm_model::cross_entropy_gpu",
    mutates_args=(),
    schema="(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets) -> Tensor[]",
)
def _cross_entropy(hidden, weight, bias, targets) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """Costs, log normalisers and mean item vectors."""
    plan = cross_entropy.make_plan(hidden.shape[1], hidden.dtype)
    lost, kept = cross_entropy.forward(
        hidden.contiguous(), weight.contiguous(), bias, targets, plan
    )
    return [lost, kept.normalizers, kept.expected]


@_cross_entropy.register_fake
def _(hidden, weight, bias, targets) -> list[Tensor]:  # type: ignore[no-untyped-def]
    rows = [hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(2)]
    return [*rows, hidden.new_empty(hidden.shape)]


@torch.library.custom_op(
    "xlstm_model::cross_entropy_gpu_backward",
    mutates_args=(),
    schema=(
        "(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor normalizers, "
        "Tensor expected, Tensor? grad_lost, Tensor? grad_normalizers) -> Tensor[]"
    ),
)
def _cross_entropy_backward(*arguments: Any) -> list[Tensor]:
    """Gradients of hidden states, item vectors and bias (empty if there is none)."""
    hidden, weight, bias, targets, normalizers, expected, *grads = arguments
    plan = cross_entropy.make_plan(hidden.shape[1], hidden.dtype)
    found = cross_entropy.backward(
        hidden.contiguous(), weight.contiguous(), bias, targets,
        cross_entropy.Kept(normalizers, expected, None, None), tuple(grads), plan,
    )  # fmt: skip
    to_bias = hidden.new_empty(0) if bias is None else found[2].to(bias.dtype)
    return [found[0], found[1].to(weight.dtype), to_bias]


@_cross_entropy_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    hidden, weight, bias = arguments[:3]
    to_bias = hidden.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return [hidden.new_empty(hidden.shape), weight.new_empty(weight.shape), to_bias]


def _keep_cross_entropy(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output[1:])


def _differentiate_cross_entropy(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    to_hidden, to_weight, to_bias = _cross_entropy_backward(*saved, *grads[:2])
    return to_hidden, to_weight, None if saved[2] is None else to_bias, None


_cross_entropy.register_autograd(_differentiate_cross_entropy, setup_context=_keep_cross_entropy)
cross_entropy_op = _cross_entropy
