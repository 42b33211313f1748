"""What `benchmarks.gpu` times: cells and the loss, ours and peers, both directions in bf16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.cells import mlstm_parallel, slstm_sequence
from xlstm_model.kernels import cross_entropy, library, mlstm, slstm

Shape = tuple[int, int, int, int]
"""Samples, positions, width, heads."""

MLSTM_SHAPES: tuple[Shape, ...] = (
    (512, 64, 64, 2),
    (256, 256, 128, 4),
    (32, 1024, 256, 4),
    (8, 8192, 512, 4),
)
SLSTM_SHAPES: tuple[Shape, ...] = ((256, 256, 128, 4),)
LOSS_SHAPES = ((51_200, 3_417, 128), (25_600, 26_744, 128))
"""Positions, items, width."""


class Subject(NamedTuple):
    """A piece of work: its results, what it is differentiated by, and the gradient given."""

    run: Callable[..., Tensor]
    leaves: list[Tensor]
    upstream: Tensor | None

    def both(self) -> Sequence[Tensor]:
        """Forward and backward."""
        return torch.autograd.grad(self.run(*self.leaves), self.leaves, self.upstream)


def leaf(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Random numbers on the GPU that take a gradient."""
    return (torch.randn(shape, device="cuda") * scale).to(dtype).requires_grad_()


def mlstm_subjects(shape: Shape, plan: mlstm.Plan | None = None) -> dict[str, Subject]:
    """The mLSTM cell, causal attention, and the cell's formula compiled."""
    B, S, D, NH = shape
    dense = [leaf(B, S, NH, D // NH) for _ in range(3)]
    gates = [leaf(B, S, NH) for _ in range(2)]
    upstream = torch.randn(B, S, NH, D // NH, device="cuda").bfloat16().transpose(1, 2)

    def ours(*tensors: Tensor) -> Tensor:
        return mlstm.mlstm(*(x.transpose(1, 2) for x in tensors), None, None, plan)[0]

    def attention(*tensors: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in tensors)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    compiled = torch.compile(_mlstm_formula)
    return {
        "ours": Subject(ours, dense + gates, upstream),
        "sdpa": Subject(attention, dense, upstream),
        "compiled": Subject(compiled, dense + gates, upstream),
    }


def _mlstm_formula(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> Tensor:
    """The parallel form as a paper would write it."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    log_i, log_f = (x.transpose(1, 2).float() for x in (igate, fgate))
    total = F.logsigmoid(log_f).cumsum(-1)
    exponent = total[..., :, None] - total[..., None, :] + log_i[..., None, :]
    causal = torch.ones(exponent.shape[-2:], dtype=torch.bool, device=q.device).tril()
    exponent = exponent.masked_fill(~causal, -torch.inf)
    m = exponent.amax(-1, keepdim=True)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 * (exponent - m).exp()
    divisor = torch.maximum(scores.sum(-1, keepdim=True).abs(), (-m).exp())
    return (scores / divisor).to(v.dtype) @ v


def slstm_subjects(shape: Shape, plan: slstm.Plan | None = None) -> dict[str, Subject]:
    """The sLSTM cell, and cuDNN's LSTM of the same width."""
    B, S, D, NH = shape
    DH = D // NH
    leaves = [
        leaf(B, S, 4, NH, DH),
        leaf(NH, DH, 4, DH, scale=DH**-0.5, dtype=torch.float32),
        leaf(NH, 4, DH, dtype=torch.float32),
    ]
    upstream = torch.randn(B, S, NH, DH, device="cuda").bfloat16()
    lstm = nn.LSTM(D, D, batch_first=True, device="cuda", dtype=torch.bfloat16)
    x = leaf(B, S, D)

    def ours(*tensors: Tensor) -> Tensor:
        return slstm.slstm(*tensors, None, None, False, plan)[0]

    def cudnn(x: Tensor, *_: Tensor) -> Tensor:
        return lstm(x)[0]

    return {
        "ours": Subject(ours, leaves, upstream),
        "cudnn lstm": Subject(cudnn, [x, *lstm.parameters()], upstream.flatten(2)),
    }


def loss_subjects(
    shape: tuple[int, int, int], plan: cross_entropy.Plan | None = None
) -> dict[str, Subject]:
    """The mean cross-entropy over the catalogue: ours, and PyTorch's as written and compiled."""
    T, V, D = shape
    leaves = [leaf(T, D), leaf(V, D, scale=D**-0.5)]
    targets = torch.randint(1, V, (T,), device="cuda")

    def ours(hidden: Tensor, weight: Tensor) -> Tensor:
        lost, _ = cross_entropy.negative_log_likelihood(hidden, weight, None, targets, plan)
        return lost.mean()

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy((hidden @ weight.T)[:, 1:].float(), targets - 1)

    return {
        "ours": Subject(ours, leaves, None),
        "compiled": Subject(torch.compile(plain), leaves, None),
        "naive": Subject(plain, leaves, None),
    }


def candidates(kind: str, shape: tuple[int, ...]) -> dict[str, NamedTuple]:
    """Plans worth trying, by how they print."""
    if kind == "slstm":
        plans = [slstm.Plan(16, warps, warps) for warps in (1, 2, 4, 8)]
    elif kind == "mlstm":
        plans = _mlstm_plans(shape)
    else:
        plans = [
            cross_entropy.Plan(*forward, *backward, resident)
            for forward, backward, resident in (
                ((128, 64, 8, 3), (128, 64, 8, 3), 1),
                ((64, 64, 4, 3), (64, 64, 4, 3), 3),
                ((64, 64, 4, 3), (64, 128, 4, 2), 2),
                ((128, 128, 8, 2), (128, 32, 8, 3), 1),
                ((128, 32, 4, 3), (64, 32, 4, 4), 2),
                ((128, 64, 8, 2), (128, 64, 8, 2), 1),
            )
        ]
    return {str(tuple(plan)): plan for plan in plans}


def _mlstm_plans(shape: Shape) -> list[mlstm.Plan]:
    B, S, D, NH = shape
    own = mlstm.make_plan(B * NH, S, D // NH, D // NH, torch.bfloat16)
    width = library.power_of_two(D // NH)
    walks = [own._replace(warps=w, stages=s) for w in (2, 4) for s in (2, 3)]
    if own.carry:
        return [*walks, *(own._replace(backward_stages=s) for s in (1, 3))]
    changed = [own._replace(warps=w, stages=s) for w in (4, 8) for s in (1, 2)]
    changed += [own._replace(backward_tile=t) for t in (32, 64, width) if t <= width]
    states = (((64, 64), 4, 3), ((32, width), 4, 3), ((32, 32), 1, 4))
    named = ("state_tile", "state_warps", "state_stages")
    return changed + [own._replace(**dict(zip(named, x, strict=True))) for x in states]


def reference_errors(subject: Subject, exact: Callable[..., Tensor]) -> list[float]:
    """Relative errors of the results and all gradients against float64."""
    wide = [x.detach().double().requires_grad_() for x in subject.leaves]
    out, expected = subject.run(*subject.leaves), exact(*wide)
    upstream = None if subject.upstream is None else subject.upstream.double()
    with library.disabled():
        grads = torch.autograd.grad(expected, wide, upstream)
    pairs = zip((out, *subject.both()), (expected, *grads), strict=True)
    return [float((a.detach().double() - b).norm() / b.norm()) for a, b in pairs]


def exact_mlstm(*tensors: Tensor) -> Tensor:
    """The cell in float64 operations of PyTorch."""
    with library.disabled():
        return mlstm_parallel(*(x.transpose(1, 2) for x in tensors))[0]


def exact_slstm(*tensors: Tensor) -> Tensor:
    """The cell in float64 operations of PyTorch."""
    with library.disabled():
        return slstm_sequence(*tensors)[0]
