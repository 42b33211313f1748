"""Triton kernels of the cross-entropy over a whole catalogue, without the matrix of scores.

Scores are made tile by tile from hidden states (T, D) and item vectors (V, D). One pass keeps the
running maximum, the sum of exponentials and the item vectors weighted by them, as attention does
with items for keys and values: the loss and all but one factor of the hidden states' gradient. The
pass for the items' gradient makes the scores again. Column 0, padding, takes no part.

With HAS_SEEN, items of a position's history get one of two numbers added to their scores. The
column at which an item first stands in a row, ``since`` (B, WIDTH), says for all positions of the
row at once which items those are.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def load_places(rows, columns, newest, t, T, WIDTH):
    """Where a row of ``since`` begins, the column and the item of each position."""
    inside = t < T
    start = tl.load(rows + t, mask=inside, other=0) * WIDTH
    # Nothing stands before column 0: positions beyond the last have no history.
    column = tl.load(columns + t, mask=inside, other=-1)
    return start, column, tl.load(newest + t, mask=inside, other=0)


@triton.jit
def load_added(added):
    """What is added to the score of the newest item and of earlier ones, in powers of two."""
    return tl.load(added) * LOG2_E, tl.load(added + 1) * LOG2_E


@direct
@triton.jit
def expect(
    hidden, weight, bias, targets, since, rows, columns, newest, added, lost, normalizers,
    expected, masses, kinds, T, V, D, WIDTH,
    HAS_BIAS: tl.constexpr, HAS_GRAD: tl.constexpr, HAS_SEEN: tl.constexpr,
    BT: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Negative log-likelihood and log normaliser of each position, and the mean item vector under
    its distribution; program: positions."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    states = tl.load(
        hidden + t[:, None].to(tl.int64) * D + d[None, :],
        mask=(t < T)[:, None] & (d < D)[None, :],
        other=0.0,
    )
    highest = tl.full((BT,), -1e30, tl.float32)
    total = tl.zeros((BT,), tl.float32)
    mean = tl.zeros((BT, BD), tl.float32)
    if HAS_SEEN:
        start, column, last = load_places(rows, columns, newest, t, T, WIDTH)
        to_newest, to_earlier = load_added(added)
        fresh, again = tl.zeros((BT,), tl.float32), tl.zeros((BT,), tl.float32)
    for first in range(0, V, BV):
        j = first + tl.arange(0, BV)
        # What is the same in every turn is a narrow integer, what differs one wide number.
        items = tl.load(
            weight
            + tl.full((), 1, tl.int64) * first * D
            + (tl.arange(0, BV)[:, None] * D + d[None, :]),
            mask=(j < V)[:, None] & (d < D)[None, :],
            other=0.0,
        )
        is_item = (j > 0) & (j < V)
        offset = tl.zeros((BV,), tl.float32)
        if not HAS_SEEN:
            offset = tl.where(is_item, 0.0, float("-inf"))
        if HAS_BIAS:
            offset += tl.load(bias + j, mask=is_item, other=0.0).to(tl.float32) * LOG2_E
        scores = tl.dot(states, tl.trans(items), input_precision=PRECISION) * LOG2_E
        if HAS_BIAS or not HAS_SEEN:
            scores += offset[None, :]
        if HAS_SEEN:
            began = tl.load(since + (start[:, None] + j[None, :]))
            is_newest = j[None, :] == last[:, None]
            is_earlier = (began <= column[:, None]) & (j > 0)[None, :] & (is_newest == 0)
            scores += tl.where(is_newest, to_newest, tl.where(is_earlier, to_earlier, 0.0))
            # An infinite offset, as above, takes a quarter longer here, where registers are short.
            scores = tl.where(is_item[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        shrink = tl.exp2(highest - higher)
        shares = tl.exp2(scores - higher[:, None])
        total = total * shrink + tl.sum(shares, 1)
        if HAS_SEEN:
            fresh = fresh * shrink + tl.sum(tl.where(is_newest, shares, 0.0), 1)
            again = again * shrink + tl.sum(tl.where(is_earlier, shares, 0.0), 1)
        if HAS_GRAD:
            mean = mean * shrink[:, None]
            mean = tl.dot(shares.to(items.dtype), items, mean, input_precision=PRECISION)
        highest = higher
    wanted = tl.load(targets + t, mask=t < T, other=0)
    rows = tl.load(
        weight + wanted[:, None] * D + d[None, :],
        mask=(wanted > 0)[:, None] & (d < D)[None, :],
        other=0.0,
    )
    reached = tl.sum(states.to(tl.float32) * rows.to(tl.float32), 1)
    if HAS_BIAS:
        reached += tl.load(bias + wanted, mask=wanted > 0, other=0.0).to(tl.float32)
    normalizer = (highest + tl.log2(total)) * LN_2
    if HAS_SEEN:
        began = tl.load(since + start + wanted, mask=wanted > 0, other=32767)
        kind = tl.where(wanted == last, 1, tl.where(began <= column, 2, 0))
        kind = tl.where(wanted > 0, kind, 0)
        reached += tl.where(kind == 1, to_newest, tl.where(kind == 2, to_earlier, 0.0)) * LN_2
        tl.store(kinds + t, kind.to(tl.int8), mask=t < T)
        tl.store(masses + 2 * t, fresh / total, mask=t < T)
        tl.store(masses + 2 * t + 1, again / total, mask=t < T)
    tl.store(normalizers + t, normalizer, mask=t < T)
    tl.store(lost + t, tl.where(wanted > 0, normalizer - reached, 0.0), mask=t < T)
    if HAS_GRAD:
        mean = mean / total[:, None]
        tl.store(
            expected + t[:, None].to(tl.int64) * D + d[None, :],
            mean.to(expected.dtype.element_ty),
            mask=(t < T)[:, None] & (d < D)[None, :],
        )


@direct
@triton.jit
def hidden_backward(
    expected, weight, targets, masses, kinds, grad_lost, grad_normalizers, grad_hidden, grad_added,
    T, D, HAS_SEEN: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Gradient of the hidden states, and a part of that of what is added, from what ``expect``
    left; program: positions."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    wanted = tl.load(targets + t, mask=t < T, other=0)
    is_wanted = wanted > 0
    loss = tl.where(is_wanted, tl.load(grad_lost + t, mask=t < T, other=0.0), 0.0)
    every = loss + tl.load(grad_normalizers + t, mask=t < T, other=0.0)
    inside = (t < T)[:, None] & (d < D)[None, :]
    at = t[:, None].to(tl.int64) * D + d[None, :]
    mean = tl.load(expected + at, mask=inside, other=0.0).to(tl.float32)
    rows = tl.load(
        weight + wanted[:, None] * D + d[None, :],
        mask=is_wanted[:, None] & (d < D)[None, :],
        other=0.0,
    ).to(tl.float32)
    grad = every[:, None] * mean - loss[:, None] * rows
    tl.store(grad_hidden + at, grad.to(grad_hidden.dtype.element_ty), mask=inside)
    if HAS_SEEN:
        kind = tl.load(kinds + t, mask=t < T, other=0)
        for number in tl.static_range(2):
            mass = tl.load(masses + 2 * t + number, mask=t < T, other=0.0)
            part = every * mass - tl.where(kind == number + 1, loss, 0.0)
            tl.store(grad_added + tl.program_id(0) * 2 + number, tl.sum(part, 0))


@direct
@triton.jit
def items_backward(
    hidden, weight, bias, targets, since, rows, columns, newest, added, normalizers, grad_lost,
    grad_normalizers, grad_weight, grad_bias, T, V, D, WIDTH, PER_PART,
    HAS_BIAS: tl.constexpr, HAS_SEEN: tl.constexpr,
    BT: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the item vectors from some positions; program: items, part of the positions."""
    j = tl.program_id(0) * BV + tl.arange(0, BV)
    part = tl.program_id(1)
    d = tl.arange(0, BD)
    is_item = (j > 0) & (j < V)
    items = tl.load(
        weight + j[:, None].to(tl.int64) * D + d[None, :],
        mask=(j < V)[:, None] & (d < D)[None, :],
        other=0.0,
    )
    if HAS_BIAS:
        offset = tl.load(bias + j, mask=is_item, other=0.0).to(tl.float32) * LOG2_E
    grad = tl.zeros((BV, BD), tl.float32)
    sums = tl.zeros((BV,), tl.float32)
    if HAS_SEEN:
        to_newest, to_earlier = load_added(added)
    for first in range(part * PER_PART, (part + 1) * PER_PART, BT):
        t = first + tl.arange(0, BT)
        states = tl.load(
            hidden
            + tl.full((), 1, tl.int64) * first * D
            + (tl.arange(0, BT)[:, None] * D + d[None, :]),
            mask=(t < T)[:, None] & (d < D)[None, :],
            other=0.0,
        )
        wanted = tl.load(targets + t, mask=t < T, other=0)
        loss = tl.where(wanted > 0, tl.load(grad_lost + t, mask=t < T, other=0.0), 0.0)
        every = loss + tl.load(grad_normalizers + t, mask=t < T, other=0.0)
        normalizer = tl.load(normalizers + t, mask=t < T, other=0.0) * LOG2_E
        scores = tl.dot(items, tl.trans(states), input_precision=PRECISION)
        scores = scores * LOG2_E - normalizer[None, :]
        if HAS_BIAS:
            scores += offset[:, None]
        if HAS_SEEN:
            start, column, last = load_places(rows, columns, newest, t, T, WIDTH)
            began = tl.load(since + (start[None, :] + j[:, None]))
            earlier = tl.where(began <= column[None, :], to_earlier, 0.0)
            scores += tl.where(j[:, None] == last[None, :], to_newest, earlier)
        shares = tl.exp2(scores) * every[None, :]
        shares -= tl.where(j[:, None] == wanted[None, :], loss[None, :], 0.0)
        grad = tl.dot(shares.to(states.dtype), states, grad, input_precision=PRECISION)
        if HAS_BIAS:
            sums += tl.sum(shares, 1)
    # Rows of items are independent of each other: padding's is only left out here.
    grad = tl.where(is_item[:, None], grad, 0.0)
    at = (part * V + j[:, None]).to(tl.int64) * D + d[None, :]
    tl.store(grad_weight + at, grad, mask=(j < V)[:, None] & (d < D)[None, :])
    if HAS_BIAS:
        tl.store(grad_bias + part * V + j, tl.where(is_item, sums, 0.0), mask=j < V)
