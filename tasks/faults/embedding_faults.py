"""Faults of the item embedding and the head: initial values, gradients, width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_model, change_weights, first_embedding, swap_class
from xlstm_model.initialization import EMBEDDING_STD

UNTIED = {"tied": False}


def _table(change):
    def plant(subject: Subject) -> Subject:
        return change_weights(subject, lambda model: change(first_embedding(model).weight))

    return plant


def _embedding_class(wrong: type):
    def plant(subject: Subject) -> Subject:
        def change(model: nn.Module) -> nn.Module:
            swap_class(first_embedding(model), wrong)
            return model

        return change_model(subject, change)

    return plant


def _model_class(wrong: type):
    def plant(subject: Subject) -> Subject:
        def change(model: nn.Module) -> nn.Module:
            swap_class(model, wrong)
            return model

        return change_model(subject, change)

    return plant


class _Detached:
    """Looks rows up in a copy that takes no gradient."""

    def forward(self, item_ids: Tensor) -> Tensor:
        return super().forward(item_ids).detach()


class _Clamped:
    """Gives all items of the second half of the catalogue one row."""

    def forward(self, item_ids: Tensor) -> Tensor:
        return super().forward(item_ids.clamp(max=self.num_embeddings // 2))


class _HalfFrozen:
    """Lets only every second row take a gradient."""

    def forward(self, item_ids: Tensor) -> Tensor:
        frozen = (torch.arange(self.num_embeddings, device=item_ids.device) % 2 == 0)[:, None]
        weight = torch.where(frozen, self.weight.detach(), self.weight)
        return F.embedding(item_ids, weight, self.padding_idx)


class _NarrowHead:
    """Scores the first half of the catalogue only."""

    def head(self, hidden: Tensor) -> Tensor:
        scores = super().head(hidden)
        return scores[..., : scores.shape[-1] // 2]


def _frozen(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        first_embedding(model).weight.requires_grad_(False)
        return model

    return change_model(subject, change)


def _zero(weight: Tensor) -> None:
    weight.zero_()


def _equal_rows(weight: Tensor) -> None:
    weight[1:] = weight[1]


def _huge(weight: Tensor) -> None:
    weight[1:] *= 200 / EMBEDDING_STD


def _lookup_scale(weight: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    weight[1:] = torch.randn(weight[1:].shape, generator=generator) * math.sqrt(weight.shape[1])


def _huge_head(subject: Subject) -> Subject:
    def change(model: nn.Module) -> None:
        model.output_weight[1:] *= 6 / EMBEDDING_STD

    return change_weights(subject, change)


FAULTS = (
    Fault(
        id="emb_frozen",
        title="the item embedding takes no gradient",
        layer="model",
        source="DEForm, frozen parameters",
        expected=asks("G10 X12"),
        stages=at("embedding", "optimiser"),
        apply=_frozen,
        needs=UNTIED,
    ),
    Fault(
        id="emb_detached",
        title="looked-up embeddings are detached from the graph",
        layer="model",
        source="TrainCheck, parameters without updates",
        expected=asks("G10 X12 G15"),
        stages=at("gradient_flow", "embedding"),
        apply=_embedding_class(_Detached),
        needs=UNTIED,
    ),
    Fault(
        id="emb_zero",
        title="all embeddings start at zero",
        layer="model",
        source="DEForm, zeroed embedding",
        expected=asks("G10 X12"),
        stages=at("core", "gradient_flow", "optimiser", "embedding"),
        apply=_table(_zero),
        needs=UNTIED,
    ),
    Fault(
        id="emb_constant",
        title="all embeddings start at the same vector",
        layer="model",
        source="NeuraLint, constant initialisation; TheDeepChecker, unbroken symmetry",
        expected=asks("G10 X12 G22"),
        stages=at("core", "embedding"),
        apply=_table(_equal_rows),
    ),
    Fault(
        id="emb_huge",
        title="embeddings start with a standard deviation of 200",
        layer="model",
        source="DeepCrime, weight initialisation",
        expected=asks("G9 G10 X23"),
        stages=at("activation", "embedding"),
        apply=_table(_huge),
    ),
    Fault(
        id="head_huge",
        title="the output matrix starts with a standard deviation of 6",
        layer="model",
        source="DeepCrime, weight initialisation",
        expected=asks("G10 G13"),
        stages=at("embedding", "output"),
        apply=_huge_head,
        needs=UNTIED,
    ),
    Fault(
        id="head_small_V",
        title="the head scores half of the catalogue",
        layer="model",
        source="DEForm, wrong output dimension",
        expected=asks("G8 G13"),
        stages=at("dims", "output"),
        apply=_model_class(_NarrowHead),
    ),
    Fault(
        id="tied_not_rescaled",
        title="a tied table is made for looking up and reused for scoring without rescaling",
        layer="model",
        source="weight tying with an embedding multiplied by the root of its width",
        expected=asks("G10 G13"),
        stages=at("embedding", "output"),
        apply=_table(_lookup_scale),
        needs={"tied": True},
    ),
    Fault(
        id="emb_clamped",
        title="item ids are clamped, so half of the catalogue shares one row",
        layer="model",
        source="out-of-range lookups silenced by a clamp",
        expected=asks("G10 X12"),
        stages=at("embedding"),
        apply=_embedding_class(_Clamped),
        severity=0.5,
        needs=UNTIED,
    ),
    Fault(
        id="emb_half_frozen",
        title="every second embedding row takes no gradient",
        layer="model",
        source="DEForm, partly frozen embedding",
        expected=asks("G10 X12"),
        stages=at("embedding"),
        apply=_embedding_class(_HalfFrozen),
        severity=0.5,
        needs=UNTIED,
    ),
)
