"""Faults of the mLSTM cell: normaliser, mask, decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import WITH_MLSTM, Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_modules
from tasks.faults.written_out import WrittenOutMLSTM
from xlstm_model.blocks.recurrence import MLSTMRecurrence
from xlstm_model.cells import MLSTMState


class _PlainQuotient(WrittenOutMLSTM):
    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return (q * n).sum(-1)


class _LargestFeature(WrittenOutMLSTM):
    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return (q * n).abs().amax(-1) + 1e-6


class _NotCausal(MLSTMRecurrence):
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        *,
        mask: Tensor | None = None,
        state: Any = None,
    ) -> Any:
        _, after = super().forward(q, k, v, igate_preact, fgate_preact, mask=mask, state=state)
        decay = F.logsigmoid(fgate_preact).cumsum(-1)
        log_weight = decay[..., :, None] - decay[..., None, :] + igate_preact[..., None, :]
        if mask is not None:
            log_weight = log_weight.masked_fill(~mask[:, None, None, :], -torch.inf)
        m = log_weight.amax(-1, keepdim=True)
        weight = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5 * (log_weight - m).exp()
        floor = torch.maximum(weight.sum(-1, keepdim=True).abs(), (-m).exp())
        h = weight / floor @ v
        if mask is not None:
            h = torch.where(mask[:, None, :, None], h, 0.0)
        return h, after


class _LateDecay(WrittenOutMLSTM):
    """Memory decays by the forget gate of the step before, the normaliser by that of this one."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        **more: Any,
    ) -> Any:
        late = torch.cat([fgate_preact[..., :1], fgate_preact[..., :-1]], dim=-1)
        both = torch.stack([fgate_preact, late], dim=-1)
        return super().forward(q, k, v, igate_preact, both, **more)

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        state: MLSTMState,
    ) -> tuple[Tensor, MLSTMState]:
        if fgate_preact.dim() == igate_preact.dim():
            fgate_preact = torch.stack([fgate_preact, fgate_preact], dim=-1)
        own, late = fgate_preact.unbind(-1)
        _, after = super().step(q, k, v, igate_preact, own, state)
        kept = (late.sigmoid() - own.sigmoid()) * (state.m - after.m).exp()
        c = after.c + kept[..., None, None] * state.c
        h = (q[..., None] * c).sum(-2) / self.denominator(q, after.n, after.m)[..., None]
        return h, after._replace(c=c)


class _NoNormaliser(WrittenOutMLSTM):
    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return torch.ones_like(m)


def _cell(wrong: type) -> Callable[[Subject], Subject]:
    return lambda subject: change_modules(subject, MLSTMRecurrence, wrong)


def _fault(
    id: str,
    title: str,
    source: str,
    expected: str,
    stages: frozenset[str],
    wrong: type,
) -> Fault:
    return Fault(
        id, title, "xlstm", source, asks(expected), stages, _cell(wrong), models=WITH_MLSTM
    )


FAULTS = (
    _fault(
        "mlstm_no_absmax",
        "the memory is divided by n . q, whatever its sign and size",
        "styalai/xLSTM-pytorch, division without a bound; PyxLSTM 27",
        "X10 G22",
        at("cell", "numeric"),
        _PlainQuotient,
    ),
    _fault(
        "mlstm_largest_feature",
        "the memory is divided by the largest feature of n . q plus 1e-6",
        "the fix proposed in a review of styalai/xLSTM-pytorch",
        "X10",
        at("cell"),
        _LargestFeature,
    ),
    _fault(
        "mlstm_no_mask",
        "positions read what later ones have written",
        "DEForm, missing attention mask",
        "G11 X10",
        at("causal"),
        _NotCausal,
    ),
    _fault(
        "decay_mismatch",
        "the memory decays by the forget gate of the step before",
        "DEForm, cache out of step",
        "X10",
        at("cell"),
        _LateDecay,
    ),
    _fault(
        "mlstm_no_normaliser",
        "the memory is read without its normaliser",
        "PyxLSTM 27, normaliser missing",
        "X10",
        at("cell"),
        _NoNormaliser,
    ),
)
