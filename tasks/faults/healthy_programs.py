"""Healthy programs that are written another way than the pipeline's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Batch, PreparedLog, Subject
from tasks.evaluation.sampled import draw_uniform_negatives, rank_among_sampled_negatives
from tasks.faults.core_faults import Bidirectional
from tasks.faults.fault import WITH_MLSTM, WITH_SLSTM, WITH_XLSTM, HealthyVariant
from tasks.faults.layered_blocks import change_layers
from tasks.faults.planting import (
    change_batches,
    change_core,
    change_hidden,
    change_model,
    change_modules,
    change_weights,
    first_embedding,
    redeclare,
)
from tasks.faults.written_out import WrittenOutMLSTM, WrittenOutSLSTM
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.cells import MLSTMState
from xlstm_model.layers import CausalConv1d


class _GlobalStabiliser(WrittenOutMLSTM):
    """Stabilises all rows by the largest exponent of any: the quotient stays the same."""

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        state: MLSTMState,
    ) -> tuple[Tensor, MLSTMState]:
        _, after = super().step(q, k, v, igate_preact, fgate_preact, state)
        highest = after.m.max().expand_as(after.m)
        scale = (after.m - highest).exp()
        c, n = after.c * scale[..., None, None], after.n * scale[..., None]
        h = (q[..., None] * c).sum(-2) / self.denominator(q, n, highest)[..., None]
        return h, MLSTMState(c, n, highest)


class _StabiliserConstant(WrittenOutSLSTM):
    """Takes the stabiliser out of the graph everywhere: it cancels in the quotient."""

    def stabiliser(self, carried: Tensor, igate: Tensor) -> Tensor:
        return super().stabiliser(carried, igate).detach()


class _SlicedConv(CausalConv1d):
    """Pads both sides and cuts the padding off: the same for kernels above 1."""

    def _convolve(self, x: Tensor, state: Tensor) -> Tensor:
        padded = torch.cat([state, x], dim=1).transpose(1, 2)
        padded = F.pad(padded, (0, self.kernel_size - 1))
        y = F.conv1d(padded, self.weight, self.bias, groups=self.channels)
        return y[:, :, : x.shape[1]].transpose(1, 2)


def _no_padding_idx(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        first_embedding(model).padding_idx = None
        return model

    return change_model(subject, change)


def _left_padded(batch: Batch) -> Batch:
    lengths, width = batch.lengths, batch.item_ids.shape[1]
    source = torch.arange(width) - (width - lengths)[:, None]
    real = source >= 0

    def moved(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.gather(1, source.clamp(min=0)) * real

    return batch._replace(
        item_ids=moved(batch.item_ids),
        targets=moved(batch.targets),
        mask=real,
        times=moved(batch.times),
    )


def _padded_left_with_mask(subject: Subject) -> Subject:
    return redeclare(change_batches(subject, _left_padded), padding_side="left")


def _strided(batch: Batch) -> Batch:
    return batch._replace(
        item_ids=batch.item_ids.T.contiguous().T, targets=batch.targets.T.contiguous().T
    )


def _in_float64(subject: Subject) -> Subject:
    return change_model(subject, lambda model: model.double())


def _open_forget_gates(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, SLSTMRecurrence):
            module.bias[:, 1] = 5.0
        if hasattr(module, "fgate"):
            module.fgate.bias.fill_(5.0)


def _sparse_relu(hidden: Tensor, mask: Tensor) -> Tensor:
    return torch.relu(hidden - 0.25 * hidden.abs().mean(dim=-1, keepdim=True))


def _accumulating(subject: Subject) -> Subject:
    def train_step(loss: Any, model: nn.Module, optimizer: Any, batch: Batch) -> Tensor:
        model.train()
        torch.manual_seed(batch.seed)
        optimizer.zero_grad()
        total, value = batch.num_targets, torch.zeros(())
        for rows in torch.arange(len(batch.item_ids)).tensor_split(4):
            part = batch.rows(rows)
            if part.num_targets:
                share = loss(model, part) * part.num_targets / total
                share.backward()
                value = value + share.detach()
        nn.utils.clip_grad_norm_(model.parameters(), subject.declared.max_grad_norm)
        optimizer.step()
        return value

    return subject.replace(train_step=train_step)


def _unclipped(subject: Subject) -> Subject:
    def train_step(loss: Any, model: nn.Module, optimizer: Any, batch: Batch) -> Tensor:
        model.train()
        torch.manual_seed(batch.seed)
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
        return value.detach()

    return redeclare(subject, max_grad_norm=0.0).replace(train_step=train_step)


def _restored_items(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_corrupted(prepared: PreparedLog, *when: int) -> Iterator[Batch]:
        for batch in make(prepared, *when):
            generator = torch.Generator().manual_seed(batch.seed)
            replaced = torch.rand(batch.item_ids.shape, generator=generator) < 0.3
            replaced[:, 0] |= ~(replaced & batch.mask).any(dim=1)
            replaced &= batch.mask
            others = torch.randint(
                1, prepared.data.num_items + 1, batch.item_ids.shape, generator=generator
            )
            yield batch._replace(
                item_ids=torch.where(replaced, others, batch.item_ids),
                targets=torch.where(replaced, batch.item_ids, 0),
            )

    restored = change_core(subject.replace(make_batches=make_corrupted), Bidirectional)
    return redeclare(restored, task="masked_item")


def _declared_sampling(subject: Subject) -> Subject:
    def rank(scores: Tensor, targets: Tensor) -> Tensor:
        negatives = draw_uniform_negatives(targets, scores.shape[1] - 1, 20, seed=0)
        return rank_among_sampled_negatives(scores, targets, negatives)

    return redeclare(subject, full_ranking=False).replace(rank=rank)


def _two_threads(subject: Subject) -> Subject:
    score = subject.score

    def score_in_parallel(*given: Any) -> Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            return score(*given)
        finally:
            torch.set_num_threads(threads)

    return subject.replace(score=score_in_parallel)


def _learned_start(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, SLSTMRecurrence | MLSTMRecurrence):
            _add_initial_state(module)
    return model


def _add_initial_state(cell: nn.Module) -> None:
    cell.learned_initial_state = True
    if isinstance(cell, MLSTMRecurrence):
        heads, qk, v = cell.num_heads, cell.qk_dim, cell.v_dim
        cell.initial_c = nn.Parameter(torch.zeros(heads, qk, v))
        cell.initial_n = nn.Parameter(torch.zeros(heads, qk))
        return
    shape = (cell.num_heads, cell.head_dim)
    for name in ("initial_h", "initial_c", "initial_log_n"):
        setattr(cell, name, nn.Parameter(torch.zeros(shape)))


def _variant(
    id: str, title: str, apply: Callable[[Subject], Subject], models: frozenset[str] = frozenset()
) -> HealthyVariant:
    return HealthyVariant(id, title, apply, models)


PROGRAMS: tuple[HealthyVariant, ...] = (
    _variant(
        "global_stabiliser",
        "the mLSTM stabiliser is shared by all rows",
        lambda subject: change_modules(subject, MLSTMRecurrence, _GlobalStabiliser),
        WITH_MLSTM,
    ),
    _variant(
        "mlstm_written_out",
        "the mLSTM cell is a loop over positions",
        lambda subject: change_modules(subject, MLSTMRecurrence, WrittenOutMLSTM),
        WITH_MLSTM,
    ),
    _variant(
        "slstm_written_out",
        "the sLSTM cell is written out with another order of operations",
        lambda subject: change_modules(subject, SLSTMRecurrence, WrittenOutSLSTM),
        WITH_SLSTM,
    ),
    _variant(
        "stabiliser_constant",
        "the stabiliser takes no gradient anywhere",
        lambda subject: change_modules(subject, SLSTMRecurrence, _StabiliserConstant),
        WITH_SLSTM,
    ),
    _variant(
        "sliced_conv",
        "the convolution pads both sides and cuts the right one off",
        lambda subject: change_layers(subject, CausalConv1d, _SlicedConv),
        WITH_XLSTM,
    ),
    _variant("no_padding_idx", "the embedding has no padding index", _no_padding_idx),
    _variant("left_padding", "rows are padded left, with their mask", _padded_left_with_mask),
    _variant(
        "strided_batches", "tensors are not contiguous", lambda s: change_batches(s, _strided)
    ),
    _variant("float64", "the model computes in double precision", _in_float64),
    _variant(
        "open_forget_gates",
        "forget gates start open (bias 5)",
        lambda subject: change_weights(subject, _open_forget_gates),
        WITH_XLSTM,
    ),
    _variant(
        "sparse_relu",
        "a ReLU after the sequence model leaves most units at zero",
        lambda subject: change_hidden(subject, _sparse_relu),
    ),
    _variant("accumulated", "gradients are accumulated over four parts of a batch", _accumulating),
    _variant("unclipped", "gradients are not clipped, and none is declared", _unclipped),
    _variant(
        "restored_items", "a bidirectional model restores items that were replaced", _restored_items
    ),
    _variant("sampled_ranking", "metrics rank among declared negatives", _declared_sampling),
    _variant("two_threads", "scores are computed by two threads", _two_threads),
    _variant(
        "learned_start",
        "initial states of the cells are parameters",
        lambda subject: change_model(subject, _learned_start),
        WITH_XLSTM,
    ),
)
"""Programs written another way."""
