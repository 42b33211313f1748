"""What the blocks of an xLSTM do while it trains: gates, states along a sequence, saturation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tasks.training.batches import Batch
from tasks.training.parameter_names import parameter_group
from xlstm_model import MLSTMBlock, MLSTMLargeBlock, Recorder, SLSTMBlock
from xlstm_model.recorder import BlockRecord

NUM_ROWS = 8
"""Rows of the batch that are looked at: looking replays the cells step by step."""
SATURATED = 0.01
"""A unit this close to a bound of its activation, per width of its range, passes no gradient."""
RANGES = {"z": (-1.0, 1.0), "o": (0.0, 1.0)}
"""Bounds of activations that are better off within them; the others rest at a bound by design."""


def has_gates(model: nn.Module) -> bool:
    """Whether the model holds an xLSTM block."""
    kinds = (MLSTMBlock, MLSTMLargeBlock, SLSTMBlock)
    return any(isinstance(module, kinds) for module in model.modules())


def look_inside(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Means over the real positions of the batch's first rows.

    Runs a forward pass of its own, without dropout or gradients, and leaves the model as it was.

    Args:
        model: a recommender with xLSTM blocks.
        batch: a training batch.

    Returns:
        ``gate/<block>/<gate>``: openness of gates ``i`` and ``f`` (what is written and kept on the
        cell's running scale, 0..1) and, in sLSTM blocks, ``o`` (0..1);
        ``state/<block>/<state>/<place>``: norm of the states ``c`` (on the cell's running scale)
        and ``h`` per head, at the ``first``, ``middle`` and ``last`` event;
        ``saturated/<block>/<unit>``: in sLSTM blocks, share of ``z`` and ``o`` at a bound.
    """
    rows = slice(0, NUM_ROWS)
    times = None if batch.times is None else batch.times[rows]
    return numbers_of(watch(model, batch.item_ids[rows], batch.mask[rows], times))


def watch(
    model: nn.Module, item_ids: Tensor, mask: Tensor, times: Tensor | None = None
) -> dict[str, BlockRecord]:
    """Records of a forward pass without dropout or gradients, by the names of the blocks.

    Args:
        model: a recommender with xLSTM blocks; left as it was.
        item_ids: int64 (B, S).
        mask: bool (B, S), True where real.
        times: int64 (B, S), for models that read them.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad(), Recorder(model) as recorder:
        model.encode(item_ids, mask=mask, times=times)
    model.train(was_training)
    return recorder.blocks


def numbers_of(records: Mapping[str, BlockRecord]) -> dict[str, float]:
    """What `look_inside` returns, of records."""
    found: dict[str, Tensor] = {}
    for name, record in records.items():
        block = parameter_group(name + ".")
        for gate, values in record.gates.items():
            real = values[record.mask]
            if gate != "z":  # the input of the cell, not a gate
                found[f"gate/{block}/{gate}"] = real.mean()
            if record.kind == "slstm" and gate in RANGES:
                found[f"saturated/{block}/{gate}"] = saturated(real, *RANGES[gate])
        for state in ("c", "h"):
            for place, norm in along(record.norms[state], record.mask).items():
                found[f"state/{block}/{state}/{place}"] = norm
    # One transfer for all numbers: each would make a GPU wait.
    values = torch.stack([value.float() for value in found.values()]).tolist()
    return dict(zip(found, values, strict=True))


def saturated(values: Tensor, low: float, high: float) -> Tensor:
    """Share of values at a bound of their range.

    >>> saturated(torch.tensor([-1.0, -0.97, 0.0, 0.99]), -1.0, 1.0).item()
    0.5
    """
    room = SATURATED * (high - low)
    return ((values < low + room) | (values > high - room)).float().mean()


def along(norms: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Mean over rows and heads at the first, middle and last real position of each row.

    Args:
        norms: (B, S, NH).
        mask: bool (B, S), True where real; rows without an event are left out.

    >>> row = torch.tensor([[[1.0], [2.0], [3.0], [99.0]]])
    >>> found = along(row, torch.tensor([[True, True, True, False]]))
    >>> {place: value.item() for place, value in found.items()}
    {'first': 1.0, 'middle': 2.0, 'last': 3.0}
    """
    kept = mask.any(dim=1)
    norms, real = norms[kept], mask[kept]
    numbers = torch.arange(real.shape[1], device=real.device)
    first = real.int().argmax(dim=1)
    last = torch.where(real, numbers, -1).amax(dim=1)
    places = {"first": first, "middle": (first + last) // 2, "last": last}
    rows = torch.arange(len(real), device=real.device)
    return {place: norms[rows, index].mean() for place, index in places.items()}
