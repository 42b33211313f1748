"""Faults of xLSTM's blocks: residual stream, convolution, projections, norms, wiring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import WITH_SLSTM, WITH_XLSTM, Fault, at
from tasks.faults.labels import asks
from tasks.faults.layered_blocks import change_layers
from tasks.faults.planting import change_core, change_model
from xlstm_model.blocks.checks import zero_padding
from xlstm_model.blocks.head_merge import HeadMerge
from xlstm_model.layers import BlockDiagonalLinear, CausalConv1d


def _states(stack: nn.Module, state: Any) -> Any:
    return (None,) * len(stack.blocks) if state is None else state


class _ResidualOfInput:
    """Adds the input of the whole stack to every block's result."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        x_original, after = x, []
        for block, before in zip(self.blocks, _states(self, state), strict=True):
            y, new = block(x, mask=mask, state=before)
            x = (y - x) + x_original
            after.append(new)
        return zero_padding(self.norm(x), mask), tuple(after)


class _ResidualScaled:
    """Adds five times the input of a block to its result."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        after = []
        for block, before in zip(self.blocks, _states(self, state), strict=True):
            y, new = block(x, mask=mask, state=before)
            x = y + 4 * x
            after.append(new)
        return zero_padding(self.norm(x), mask), tuple(after)


class _CenteredConv(CausalConv1d):
    """Pads half on each side, so that a position reads later ones."""

    def _convolve(self, x: Tensor, state: Tensor) -> Tensor:
        right = (self.kernel_size - 1) // 2
        padded = F.pad(x.transpose(1, 2), (self.kernel_size - 1 - right, right))
        y = F.conv1d(padded, self.weight, self.bias, groups=self.channels)
        return y.transpose(1, 2)


class _SlicedConv(CausalConv1d):
    """Pads both sides and cuts the padding off with a slice that is empty for kernel size 1."""

    def _convolve(self, x: Tensor, state: Tensor) -> Tensor:
        padding = self.kernel_size - 1
        y = F.conv1d(
            x.transpose(1, 2), self.weight, self.bias, padding=padding, groups=self.channels
        )
        return y[:, :, :-padding].transpose(1, 2)


class _Dense(BlockDiagonalLinear):
    """Lets every block read all features."""

    def forward(self, x: Tensor) -> Tensor:
        groups = self.features_in // self.num_blocks
        width = self.features_out // self.num_blocks
        full = self.full_weight.clone()
        for block in range(self.num_blocks):
            rows = slice(block * width, (block + 1) * width)
            full[rows, block * groups : (block + 1) * groups] = self.weight[block]
        return F.linear(x, full, self.bias)


class _MixedHeads(HeadMerge):
    """Normalises all heads together."""

    def forward(self, h: Tensor) -> Tensor:
        merged = super().forward(h)
        flat = h.flatten(-2)
        if self.norm is None:
            return merged
        return F.layer_norm(flat, flat.shape[-1:], eps=self.norm.eps) * (1 + self.norm.weight)


def _dense(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        for number, module in enumerate(model.modules()):
            if isinstance(module, BlockDiagonalLinear):
                generator = torch.Generator().manual_seed(number)
                shape = (module.features_out, module.features_in)
                values = torch.randn(shape, generator=generator) * float(
                    module.weight.detach().std()
                )
                module.full_weight = nn.Parameter(values)
        return model

    return change_layers(change_model(subject, change), BlockDiagonalLinear, _Dense)


def _no_residual(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        for block in model.sequence_model.blocks:
            block.residual = False
        return model

    return change_model(subject, change)


def _kernel_from_width(subject: Subject) -> Subject:
    build = subject.build_model

    def build_wrongly(num_items: int, seed: int, **settings: Any) -> nn.Module:
        if "embedding_dim" in settings:
            settings = {"conv_kernel": int(settings["embedding_dim"] / 8), **settings}
        return build(num_items, seed, **settings)

    return subject.replace(build_model=build_wrongly)


def _built_with(**settings: Any) -> Callable[[Subject], Subject]:
    def plant(subject: Subject) -> Subject:
        build = subject.build_model

        def build_otherwise(num_items: int, seed: int, **given: Any) -> nn.Module:
            return build(num_items, seed, **{**given, **settings})

        return subject.replace(build_model=build_otherwise)

    return plant


FAULTS = (
    Fault(
        id="resid_original",
        title="every block's result is added to the input of the stack, not to its own input",
        layer="xlstm",
        source="styalai/xLSTM-pytorch, xLSTM.py",
        expected=asks("G12 X10"),
        stages=at("residual"),
        apply=lambda subject: change_core(subject, _ResidualOfInput),
        models=frozenset({"xlstm"}),
    ),
    Fault(
        id="no_resid",
        title="blocks have no residual although one is declared",
        layer="xlstm",
        source="DEForm, removed residual stream",
        expected=asks("G12 X10"),
        stages=at("residual"),
        apply=_no_residual,
        models=WITH_XLSTM,
    ),
    Fault(
        id="resid_scaled",
        title="blocks add five times their input",
        layer="xlstm",
        source="DEForm, scaled residual stream",
        expected=asks("G12 X10"),
        stages=at("residual"),
        apply=lambda subject: change_core(subject, _ResidualScaled),
        models=WITH_XLSTM,
    ),
    Fault(
        id="kernel_zero",
        title="the kernel is an eighth of the width, which is 0 for narrow models",
        layer="xlstm",
        source="styalai/xLSTM-pytorch, int(size / 8)",
        expected=asks("G8"),
        stages=at("dims"),
        apply=_kernel_from_width,
        models=WITH_XLSTM,
    ),
    Fault(
        id="conv_slice_bug",
        title="a slice that cuts the convolution's padding is empty for kernel size 1",
        layer="xlstm",
        source="styalai/xLSTM-pytorch, utils.py",
        expected=asks("G8 X10"),
        stages=at("dims", "cell"),
        apply=lambda subject: change_layers(subject, CausalConv1d, _SlicedConv),
        models=WITH_XLSTM,
    ),
    Fault(
        id="zo_use_conv",
        title="all four sLSTM gates read the convolution although two were declared",
        layer="xlstm",
        source="a review of styalai/xLSTM-pytorch; NX-AI/xlstm feeds z and o from the input",
        expected=asks("X10 G11"),
        stages=at("cell"),
        apply=_built_with(slstm_conv_gates="ifzo"),
        models=WITH_SLSTM,
    ),
    Fault(
        id="zo_skip_conv",
        title="two sLSTM gates read the raw input although all four were declared convolved",
        layer="xlstm",
        source="the reverse of the same confusion",
        expected=asks("X10 G11"),
        stages=at("cell"),
        apply=_built_with(slstm_conv_gates="if"),
        models=WITH_SLSTM,
        needs={"slstm_conv_gates": "ifzo"},
    ),
    Fault(
        id="conv_not_causal",
        title="the convolution is padded on both sides and reads later positions",
        layer="xlstm",
        source="DEForm, masks that leak",
        expected=asks("G11 X9 X10"),
        stages=at("causal"),
        apply=lambda subject: change_layers(subject, CausalConv1d, _CenteredConv),
        models=WITH_XLSTM,
    ),
    Fault(
        id="dense_block_diagonal",
        title="block-diagonal projections are dense: every block reads all features",
        layer="xlstm",
        source="styalai/xLSTM-pytorch, utils.py",
        expected=asks("X10"),
        stages=at("cell"),
        apply=_dense,
        models=WITH_XLSTM,
    ),
    Fault(
        id="heads_normalised_together",
        title="the norm after the cell mixes the heads",
        layer="xlstm",
        source="NX-AI/xlstm has a norm per head",
        expected=asks("X10"),
        stages=at("cell"),
        apply=lambda subject: change_layers(subject, HeadMerge, _MixedHeads),
        models=WITH_XLSTM,
    ),
)
