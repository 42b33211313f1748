"""Norms of recurrent outputs by position, and far beyond the training length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.blocks import first_tensor
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence

STRETCH = 4
LONGEST = 256
"""Events of the long sequence, at most: enough to overflow what grows at all, and quick."""


@dataclass(frozen=True)
class StateNorms:
    """How the size of recurrent outputs develops along a sequence."""

    growth: float = quantity("median norm at the last position over that at the first, largest")
    shrinkage: float = quantity("median norm at the last position over that at the first, smallest")
    long_length: int | None = quantity("events of the long sequence")
    long_not_finite: int | None = quantity("scores of the long sequence that are not finite")
    num_parts: int = quantity("recurrent parts")
    worst_part: str = ""
    by_position: tuple[float, ...] = ()


def measure(probe: Probe) -> StateNorms:
    """Watch recurrent parts on full rows, then score a sequence four times as long as declared."""
    first = probe.all_batches[0]
    width = int(first.lengths.max())
    full = first.rows(first.mask[:, :width].all(dim=1).nonzero().flatten()[:16])
    if width < 2 or len(full.item_ids) == 0:
        raise NotMeasuredError("a full right-padded training window of two events or more")
    model = probe.model(trained=probe.subject.trained is not None)
    norms = _watch(probe, model, full.columns(slice(0, width)))
    ratios = {}
    for name, values in norms.items():
        start = float(values[0])
        ratios[name] = float(values[-1]) / start if start > 0 else float("nan")
    worst = max(ratios, key=lambda name: abs(torch.tensor(ratios[name]).log().nan_to_num(1e9)))
    long, bad = _stretched(probe, model, full)
    return StateNorms(
        growth=_extreme(ratios.values(), max),
        shrinkage=_extreme(ratios.values(), min),
        long_length=long,
        long_not_finite=bad,
        num_parts=len(norms),
        worst_part=worst,
        by_position=tuple(norms[worst].tolist()),
    )


def _watch(probe: Probe, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the median norm per position of each recurrent part's output."""
    found: dict[str, Tensor] = {}

    def keep(name: str, positions_first: bool) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            h = first_tensor(output).detach().double()
            h = h if positions_first else h.transpose(1, 2)  # mLSTM gives (B, NH, S, DH)
            found.setdefault(name, h.flatten(2).norm(dim=2).median(dim=0).values)

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, MLSTMRecurrence):
            handles.append(module.register_forward_hook(keep(name, False)))
        elif isinstance(module, SLSTMRecurrence) or (
            isinstance(module, nn.RNNBase) and module.batch_first
        ):
            handles.append(module.register_forward_hook(keep(name, True)))
    if not handles:
        raise NotApplicableError("the model has no recurrent part that is known here")
    try:
        with torch.no_grad():
            probe.logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise NotMeasuredError("a recurrent part that runs in a forward pass")
    return found


def _stretched(probe: Probe, model: nn.Module, batch: Batch) -> tuple[int | None, int | None]:
    """Score rows repeated to four times the declared length; None where that is not offered."""
    length = min(STRETCH * probe.subject.declared.max_seq_len, LONGEST)
    width = batch.item_ids.shape[1]
    index = torch.arange(max(length, width)) % width
    long = batch.rows(slice(0, 2)).columns(index)
    if long.times is not None:
        long = long._replace(times=long.times.cummax(dim=1).values)
    try:
        with torch.no_grad():
            scores = probe.logits(model, long)[..., 1:]
    except SubjectError:
        return None, None  # longer inputs than declared may be refused
    return int(long.item_ids.shape[1]), int((~torch.isfinite(scores)).sum())


def _extreme(values: Any, choose: Any) -> float:
    values = list(values)
    return float("nan") if any(v != v for v in values) else choose(values)
