"""The mLSTM's kernels made ready for calls of one kind, so that a call only brings its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from xlstm_model.kernels import library
from xlstm_model.kernels.mlstm_plan import FIELDS, Inputs, Plan, make_plan

MOST_CHUNKS = 32
"""Chunks whose gates a program follows at once."""
GATES_PER_WARP = 256
"""Positions whose gates a warp of such a program follows at once."""

Launch = Callable[..., None]


class Kind(NamedTuple):
    """What decides how a call runs."""

    shape: tuple[int, ...]
    """Of the queries: B, NH, S, DHQK."""
    v_dim: int
    dtype: torch.dtype
    gate_dtypes: tuple[torch.dtype, torch.dtype]
    gate_strides: tuple[int, ...]
    has_mask: bool
    has_state: bool
    plan: Plan | None
    """None for that of ``make_plan``."""
    device: int


class Forward(NamedTuple):
    """One direction's launches, and the shapes of what they write beside the outputs."""

    positions: tuple[int, ...]
    chunks: tuple[int, ...]
    sums: tuple[int, ...]
    border_c: tuple[int, ...]
    border_n: tuple[int, ...]
    follow_gates: Launch
    remember: Launch | None
    """None where ``read`` does its work."""
    read: Launch


class Backward(NamedTuple):
    """The other direction's launches; None where ``read_backward`` does their work."""

    is_alone: bool
    """One chunk without a state around it: nothing was kept at its borders."""
    recall_sums: Launch | None
    remember_backward: Launch | None
    read_backward: Launch
    decay_backward: Launch | None


def kind_of(inputs: Inputs, plan: Plan | None) -> Kind:
    """The kind of a call with these inputs."""
    q, _, v, igate, fgate, mask, c, *_ = inputs
    return Kind(
        q.shape,
        v.shape[-1],
        q.dtype,
        (igate.dtype, fgate.dtype),
        fgate.stride(),
        mask is not None,
        c is not None,
        plan,
        q.get_device(),
    )


def plan_of(kind: Kind) -> Plan:
    """The plan that a call of this kind runs under."""
    B, NH, S, DK = kind.shape
    return kind.plan or make_plan(B * NH, S, DK, kind.v_dim, kind.dtype)


@lru_cache(library.MOST_KEPT)
def forward_launches(kind: Kind) -> Forward:
    """What runs the forward direction of calls of this kind."""
    from xlstm_model.kernels.launching import prepare
    from xlstm_model.kernels.mlstm_gate_kernels import follow_gates
    from xlstm_model.kernels.mlstm_kernels import read, remember

    plan, device = plan_of(kind), kind.device
    (B, NH, S, DK), DV = kind.shape, kind.v_dim
    N, rows, fields = -(-S // plan.length), B * NH, FIELDS[kind.dtype]
    stored = 0 if _is_alone(kind, plan) else N
    given: dict[str, Any] = {"HAS_MASK": kind.has_mask, "HAS_STATE": kind.has_state}
    given["L"] = plan.length
    turn = min(MOST_CHUNKS, 1 << (N - 1).bit_length())
    gates = prepare(
        follow_gates, (rows,), (*kind.gate_strides, S, N, NH, -0.5 * math.log2(DK)), device,
        **given, FIELDS=fields, C=turn,
        num_warps=min(8, max(1, turn * plan.length // GATES_PER_WARP)),
    )  # fmt: skip
    given["PRECISION"] = library.precision(kind.dtype)
    sizes, states = (S, N, NH, DK, DV), None
    if not plan.carry:
        grid, tiles = _states(rows, DK, DV, plan)
        states = prepare(remember, grid, sizes, device, **given, **tiles)
    chunks = prepare(
        read, (rows, 1, 1) if plan.carry else (rows, N, -(-DV // plan.tile)), sizes, device,
        **given, CARRY=plan.carry, ALONE=stored == 0, BK=library.power_of_two(DK), BV=plan.tile,
        num_warps=plan.warps, num_stages=plan.stages,
    )  # fmt: skip
    return Forward(
        positions=(rows, fields, N * plan.length),
        chunks=(rows, 2, N),
        sums=(rows, S),
        border_c=(rows, stored, DK, DV),
        border_n=(rows, stored, DK),
        follow_gates=gates,
        remember=states,
        read=chunks,
    )


@lru_cache(library.MOST_KEPT)
def backward_launches(kind: Kind, has_end: bool) -> Backward:
    """What runs the backward direction, with gradients of the final state or without."""
    from xlstm_model.kernels import mlstm_backward_kernels as kernels
    from xlstm_model.kernels.launching import prepare

    plan, device = plan_of(kind), kind.device
    (B, NH, S, DK), DV = kind.shape, kind.v_dim
    N, rows = -(-S // plan.length), B * NH
    is_alone = _is_alone(kind, plan) and not has_end
    sizes, bk, bv = (S, N, NH, DK, DV), library.power_of_two(DK), library.power_of_two(DV)
    shared = {"HAS_MASK": kind.has_mask, "L": plan.length}
    shared["PRECISION"] = library.precision(kind.dtype)
    given = shared | {"HAS_STATE": kind.has_state, "HAS_END": has_end}
    read = prepare(
        kernels.read_backward, (rows, 1 if plan.carry else N), (*kind.gate_strides, *sizes), device,
        **given, CARRY=plan.carry, ALONE=is_alone, BK=bk, BV=plan.backward_tile,
        TILES=bv // plan.backward_tile, num_warps=plan.backward_warps,
        num_stages=plan.backward_stages,
    )  # fmt: skip
    if plan.carry:
        return Backward(is_alone, None, None, read, None)
    sums = prepare(
        kernels.recall_sums, (rows, N), (S, N, NH, DV), device,
        **shared, BV=min(bv, 64), num_warps=4,
    )  # fmt: skip
    grid, tiles = _states(rows, DK, DV, plan)
    states = prepare(kernels.remember_backward, grid, sizes, device, **given, **tiles)
    decay = prepare(
        kernels.decay_backward, (rows,), (*kind.gate_strides, S, NH), device,
        HAS_MASK=kind.has_mask, HAS_END=has_end, L=min(1024, library.power_of_two(S)), num_warps=4,
    )  # fmt: skip
    return Backward(is_alone, sums, states, read, decay)


def _is_alone(kind: Kind, plan: Plan) -> bool:
    return plan.carry and not kind.has_state and kind.shape[2] <= plan.length


def _states(
    rows: int, qk_dim: int, v_dim: int, plan: Plan
) -> tuple[tuple[int, int, int], dict[str, int]]:
    """Grid and tiles of the kernels that follow the states from chunk to chunk."""
    widths = library.power_of_two(qk_dim), library.power_of_two(v_dim)
    tk, tv = (min(*pair) for pair in zip(widths, plan.state_tile, strict=True))
    options = {"num_warps": plan.state_warps, "num_stages": plan.state_stages}
    return (rows, -(-qk_dim // tk), -(-v_dim // tv)), {"BK": tk, "BV": tv, **options}
