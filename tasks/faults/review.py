"""The defects around a public review of styalai/xLSTM-pytorch, by the faults that plant them."""

from __future__ import annotations

FIXED: dict[str, str] = {
    "state_dim": "state of another width than the cell",
    "resid_original": "residual of the first input instead of the layer's own",
    "zo_use_conv": "gates z and o moved to the convolution, unlike the published block",
    "mlstm_no_absmax": "division without a bound",
    "conv_slice_bug": "slice that is empty for kernel size 1",
    "kernel_zero": "kernel of size 0 for narrow models",
}
"""Defects the review fixed, by fault id. The third fix contradicts the published block."""

LEFT: dict[str, str] = {"state_shared": "one state for the whole batch"}
"""Noted and left."""

MISSED: dict[str, str] = {
    "time_mean_state": "mean over time leaks the future",
    "state_carried": "state kept between calls",
    "output_broadcast": "one output for every user and position",
    "dense_block_diagonal": "block-diagonal projections that are dense",
    "norm_of_normaliser": "LayerNorm on the normaliser state",
}
"""Not noticed."""

DEFECTS: tuple[str, ...] = (*FIXED, *LEFT, *MISSED)
"""All twelve."""
