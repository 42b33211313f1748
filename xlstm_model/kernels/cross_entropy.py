"""Cross-entropy of a linear head over the whole catalogue on GPUs, and its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.kernels import library
from xlstm_model.tracing import refuse_double_backward

WIDEST = {torch.bfloat16: 256, torch.float32: 128}
"""Columns of the hidden states a program can hold."""


MOST_PARTS = 64
"""Of the items' gradient."""
BYTES_PER_TURN = 8_000_000
"""What an H100's memory moves while a program takes a turn of 128 positions and 64 items."""


class Plan(NamedTuple):
    """How the kernels cut their work."""

    positions: int
    """Positions per program of the loss."""
    items: int
    """Items per turn of the loss."""
    warps: int
    stages: int
    backward_items: int
    """Items per program of their gradient."""
    backward_positions: int
    """Positions per turn of the items' gradient."""
    backward_warps: int
    backward_stages: int
    resident: int
    """Programs of the items' gradient that a multiprocessor runs side by side."""


class Seen(NamedTuple):
    """Which items stand in the history of each position, and what is added to their scores."""

    since: Tensor
    """int16 (B, V rounded up): column at which an item first stands in a row, ``NEVER`` where it
    does not."""
    rows: Tensor
    """int32 (T,)."""
    columns: Tensor
    """int16 (T,): a position's history reaches to this column."""
    newest: Tensor
    """int64 (T,): the item at the position, 0 for none."""
    added: Tensor
    """float32 (2,): to the score of the newest item, and of the other ones of the history."""


NEVER = 32767
"""Column of an item that a row does not hold."""
_WIDTH_MULTIPLE = 128
"""Columns of ``Seen.since``: whole tiles, read in wide loads."""


def seen_items(item_ids: Tensor, positions: Tensor, num_columns: int, added: Tensor) -> Seen:
    """What the kernels need to know of histories that nothing drops out of.

    Args:
        item_ids: int64 (B, S), 0 at padding, S at most ``NEVER``.
        positions: int64 (T,), places in the flattened ``item_ids``.
        num_columns: V.
        added: (2,), see ``Seen``.

    >>> seen = seen_items(torch.tensor([[2, 1, 2]]), torch.tensor([2]), 4, torch.zeros(2))
    >>> seen.since[0, :4].tolist(), seen.columns.tolist(), seen.newest.tolist()
    ([32767, 1, 0, 32767], [2], [2])
    """
    B, S = item_ids.shape
    places = torch.arange(S, dtype=torch.int16, device=item_ids.device).expand(B, S)
    width = -(-num_columns // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    since = torch.full((B, width), NEVER, dtype=torch.int16, device=item_ids.device)
    since.scatter_reduce_(1, item_ids, places, "amin")
    return Seen(
        since,
        torch.div(positions, S, rounding_mode="floor").int(),
        (positions % S).short(),
        item_ids.flatten()[positions],
        added.float(),
    )


def fits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels can run this."""
    return (
        hidden.dtype == weight.dtype
        and hidden.shape[0] > 0
        and hidden.shape[1] <= WIDEST.get(hidden.dtype, 0)
        and library.fits(hidden, weight, bias)
    )


def make_plan(width: int, dtype: torch.dtype, has_seen: bool = False) -> Plan:
    """How to cut a call.

    Args:
        width: D.
        dtype: Of hidden states and item vectors.
        has_seen: Whether scores of seen items change, which takes registers.

    >>> make_plan(128, torch.bfloat16).positions
    64
    """
    if dtype == torch.float32 or width > 128:
        return Plan(64, 32, 4, 2, 64, 32, 4, 2, 2)
    if has_seen:
        return Plan(64, 64, 4, 3, 64, 64, 4, 3, 2)
    return Plan(64, 64, 4, 3, 64, 128, 4, 2, 2)


def split_turns(tiles: int, turns: int, places: int, part_bytes: int) -> int:
    """Into how many parts the turns of each tile are cut, so that programs fill the GPU evenly.

    Programs of one length run in waves of as many as there are places, and a wave of few takes as
    long as a full one.

    Args:
        tiles: Tiles of the items.
        turns: Turns over the positions that each tile takes.
        places: Programs that the GPU runs side by side.
        part_bytes: Size of a part's sums, which are written and read again.

    >>> split_turns(418, 200, 264, 4 * 26_744 * 128)
    5
    """
    added = 2 * part_bytes / BYTES_PER_TURN

    def cost(parts: int) -> float:
        return -(-tiles * parts // places) * -(-turns // parts) + parts * added

    return min(range(1, min(turns, MOST_PARTS) + 1), key=cost)


def negative_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    plan: Plan | None = None,
    seen: Seen | None = None,
) -> tuple[Tensor, Tensor]:
    """What each target costs, and the logarithm of each position's normaliser.

    Args:
        hidden: (T, D).
        weight: (V, D), row 0 is padding, takes no part and gets no gradient.
        bias: (V,) or None.
        targets: int64 (T,), 1..V-1, or 0 for positions that cost nothing.
        plan: How to cut the work.
        seen: What to add to the scores of items in the positions' histories; not while compiling.

    Returns:
        (T,) float32 both, in nats, and differentiable.
    """
    if seen is None and torch.compiler.is_compiling():
        from xlstm_model.kernels.operators import cross_entropy_op

        return cross_entropy_op(hidden, weight, bias, targets)[:2]
    added, places = (None, None) if seen is None else (seen.added, seen[:4])
    return CrossEntropy.apply(hidden, weight, bias, targets, added, places, plan)


def _width(seen: Seen | None) -> int:
    return 0 if seen is None else seen.since.shape[1]


class Kept(NamedTuple):
    """What the gradient needs besides the inputs."""

    normalizers: Tensor
    """(T,)."""
    expected: Tensor
    """(T, D): mean item vectors."""
    masses: Tensor | None
    """(T, 2): probabilities of the newest and of earlier items."""
    kinds: Tensor | None
    """int8 (T,): 1 where the target is the newest item, 2 an earlier one, else 0."""


def forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    plan: Plan,
    has_grad: bool = True,
    seen: Seen | None = None,
) -> tuple[Tensor, Kept]:
    """Costs (T,), and what the gradient needs."""
    from xlstm_model.kernels import cross_entropy_kernels as kernels

    T, D = hidden.shape
    lost = torch.empty(T, dtype=torch.float32, device=hidden.device)
    normalizers = torch.empty_like(lost)
    expected = torch.empty(T if has_grad else 0, D, dtype=hidden.dtype, device=hidden.device)
    masses = kinds = None
    if seen is not None:
        masses = normalizers.new_empty(T, 2)
        kinds = torch.empty(T, dtype=torch.int8, device=hidden.device)
    kernels.expect[(-(-T // plan.positions),)](
        hidden, weight, bias, targets, *(seen or _NOTHING), lost, normalizers, expected, masses,
        kinds, T, weight.shape[0], D, _width(seen),
        HAS_BIAS=bias is not None, HAS_GRAD=has_grad, HAS_SEEN=seen is not None,
        BT=plan.positions, BV=plan.items,
        BD=library.power_of_two(D), PRECISION=library.precision(hidden.dtype),
        num_warps=plan.warps, num_stages=plan.stages,
    )  # fmt: skip
    return lost, Kept(normalizers, expected, masses, kinds)


_NOTHING = (None,) * len(Seen._fields)


def backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    kept: Kept,
    grads: tuple[Tensor | None, Tensor | None],
    plan: Plan,
    seen: Seen | None = None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of hidden states, item vectors, bias and what is added to the scores of seen
    items, the sums in a fixed order."""
    from xlstm_model.kernels import cross_entropy_kernels as kernels

    (T, D), V = hidden.shape, weight.shape[0]
    normalizers = kept.normalizers
    grad_lost, grad_normalizers = (
        torch.zeros_like(normalizers) if x is None else x.contiguous() for x in grads
    )
    grad_hidden = torch.empty_like(hidden)
    has_seen = seen is not None
    grad_added = normalizers.new_empty(-(-T // 32), 2) if has_seen else None
    width = library.power_of_two(D)
    kernels.hidden_backward[(-(-T // 32),)](
        kept.expected, weight, targets, kept.masses, kept.kinds, grad_lost, grad_normalizers,
        grad_hidden, grad_added, T, D, HAS_SEEN=has_seen, BT=32, BD=width,
    )  # fmt: skip
    tiles = -(-V // plan.backward_items)
    turns = -(-T // plan.backward_positions)
    places = plan.resident * library.multiprocessors(hidden.device)
    parts = split_turns(tiles, turns, places, 4 * V * D)
    per_part = -(-turns // parts) * plan.backward_positions
    grad_weight = normalizers.new_empty(parts, V, D)
    grad_bias = None if bias is None else normalizers.new_empty(parts, V)
    kernels.items_backward[(tiles, parts)](
        hidden, weight, bias, targets, *(seen or _NOTHING), normalizers, grad_lost,
        grad_normalizers, grad_weight, grad_bias, T, V, D, _width(seen), per_part,
        HAS_BIAS=bias is not None, HAS_SEEN=has_seen, BT=plan.backward_positions,
        BV=plan.backward_items, BD=width, PRECISION=library.precision(hidden.dtype),
        num_warps=plan.backward_warps, num_stages=plan.backward_stages,
    )  # fmt: skip
    sums = (None if x is None else x.sum(0) for x in (grad_weight, grad_bias, grad_added))
    return grad_hidden, *sums


class CrossEntropy(torch.autograd.Function):
    """``negative_log_likelihood`` with its gradient."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, added, places, plan):  # type: ignore[no-untyped-def]
        plan = plan or make_plan(hidden.shape[1], hidden.dtype, added is not None)
        hidden, weight = hidden.detach().contiguous(), weight.detach().contiguous()
        bias = None if bias is None else bias.detach().contiguous()
        seen = None if added is None else Seen(*places, added.detach().contiguous())
        needs = any(ctx.needs_input_grad[:5])
        lost, kept = forward(hidden, weight, bias, targets, plan, needs, seen)
        ctx.save_for_backward(hidden, weight, bias, targets, *kept, *(seen or _NOTHING))
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return lost, kept.normalizers

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        refuse_double_backward("tasks.training.losses.cross_entropy")
        hidden, weight, bias, targets, *rest = ctx.saved_tensors
        seen = None if rest[-1] is None else Seen(*rest[4:])
        to_hidden, to_weight, to_bias, to_added = backward(
            hidden, weight, bias, targets, Kept(*rest[:4]), grads, ctx.plan, seen
        )
        to_bias = None if bias is None else to_bias.to(bias.dtype)
        return to_hidden, to_weight.to(weight.dtype), to_bias, None, to_added, None, None
