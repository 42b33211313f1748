"""What cells do event by event: gates, memories, and which events are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.baselines.sasrec import TransformerBlock
from tasks.diagnostics.plots.hidden import block_name
from tasks.diagnostics.plots.sample import SHOWN_EVENTS, Sample, run_model
from tasks.training.models import NeuralRecommender
from xlstm_model import Recorder
from xlstm_model.blocks.recurrence import MLSTMRecurrence

Row = dict[str, Any]

GATES = {"i": "input", "f": "forget", "o": "output"}


def gate_maps(recommender: NeuralRecommender, sample: Sample, labels: Sequence[str]) -> list[Row]:
    """Gates and memories of every xLSTM block over the latest events of the sample's users.

    Returns:
        Rows with user, position (from 1), item, part and value. Gates are means over units,
        0..1; a memory is the norm of one head's c over its largest norm in the history. Empty
        where the model has no xLSTM block.
    """
    try:
        recorder = Recorder(recommender.model)
    except ValueError:  # no xLSTM block inside
        return []
    with recorder:
        run_model(recommender, sample)
    rows = []
    for name, record in recorder.blocks.items():
        short = block_name(name)
        parts = {
            f"{short} {GATES[gate]} gate": values.flatten(2).mean(dim=-1)
            for gate, values in record.gates.items()
            if gate in GATES
        }
        norms = record.norms["c"].masked_fill(~record.mask[..., None], 0.0)
        largest = norms.amax(dim=1, keepdim=True).clamp(min=1e-30)
        for head, values in enumerate((norms / largest).unbind(dim=-1)):
            parts[f"{short} memory, head {head + 1}"] = values
        for part, values in parts.items():
            rows += _by_event(sample, labels, part, values)
    return rows


def _by_event(sample: Sample, labels: Sequence[str], part: str, values: Tensor) -> list[Row]:
    return [
        {
            "user": name,
            "position": position + 1,
            "item": labels[int(sample.item_ids[user, position])],
            "part": part,
            "value": float(values[user, position]),
        }
        for user, name in enumerate(sample.users)
        for position in _latest(int(sample.lengths[user]))
    ]


def _latest(length: int) -> range:
    return range(max(0, length - SHOWN_EVENTS), length)


def attention_maps(
    recommender: NeuralRecommender, sample: Sample, labels: Sequence[str]
) -> list[Row]:
    """Which events each position reads: SASRec's attention, and what an mLSTM implies.

    Unrolled, an mLSTM's output is a weighted sum of the values of all events so far (Beck et al.
    2024, eq. 19-27): weight q.k/sqrt(d) times the input gate then and every forget gate since.
    Weights have a sign; shown is each one's share of their absolute sum, mean over heads.

    Returns:
        Rows with user, layer, reader and read (positions from 1), item (the one read) and share.
        Empty where no layer attends.
    """
    maps: dict[str, Tensor] = {}
    handles = []
    for name, module in recommender.model.named_modules():
        if isinstance(module, MLSTMRecurrence):
            handles.append(module.register_forward_hook(_implied(maps, name)))
        elif isinstance(module, TransformerBlock):
            handles.append(module.register_forward_pre_hook(_attended(maps, name)))
    try:
        if handles:
            run_model(recommender, sample)
    finally:
        for handle in handles:
            handle.remove()
    return [row for layer, shares in maps.items() for row in _pairs(sample, labels, layer, shares)]


def _implied(maps: dict[str, Tensor], name: str) -> Any:
    def hook(cell: MLSTMRecurrence, args: tuple[Tensor, ...], output: Any) -> None:
        q, k, _, igate, fgate = (tensor.detach().double() for tensor in args[:5])
        log_i = F.logsigmoid(igate) if cell.gate == "sigmoid" else igate
        maps[block_name(name.rpartition(".")[0])] = implied_attention(q, k, log_i, fgate)

    return hook


def implied_attention(q: Tensor, k: Tensor, log_i: Tensor, fgate_preact: Tensor) -> Tensor:
    """Return shares (B, S, S) of the events read at each position, mean over heads.

    Args:
        q: (B, NH, S, DH).
        k: Same shape.
        log_i: Logarithm of the input gate, (B, NH, S).
        fgate_preact: Forget gate before the sigmoid, (B, NH, S).

    >>> q = torch.ones(1, 1, 2, 1)
    >>> open_gates = torch.full((1, 1, 2), 50.0)
    >>> implied_attention(q, q, torch.zeros(1, 1, 2), open_gates)[0].tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    decay = F.logsigmoid(fgate_preact).cumsum(dim=-1)
    log_weight = decay[..., :, None] - decay[..., None, :] + log_i[..., None, :]
    future = torch.ones_like(log_weight, dtype=torch.bool).triu(diagonal=1)
    log_weight = log_weight.masked_fill(future, float("-inf"))
    scale = (log_weight - log_weight.amax(dim=-1, keepdim=True)).exp()
    weights = (q @ k.transpose(-1, -2) * k.shape[-1] ** -0.5 * scale).abs()
    return (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-300)).mean(dim=1)


def _attended(maps: dict[str, Tensor], name: str) -> Any:
    def hook(block: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(block, TransformerBlock)
        with torch.no_grad():
            maps[block_name(name)] = block.attention_weights(args[0]).mean(dim=1)

    return hook


def _pairs(sample: Sample, labels: Sequence[str], layer: str, shares: Tensor) -> list[Row]:
    return [
        {
            "user": name,
            "layer": layer,
            "reader": reader + 1,
            "read": read + 1,
            "item": labels[int(sample.item_ids[user, read])],
            "share": round(float(shares[user, reader, read]), 4),
        }
        for user, name in enumerate(sample.users)
        for reader in _latest(int(sample.lengths[user]))
        for read in _latest(int(sample.lengths[user]))
        if read <= reader
    ]
