"""What was found in public packages, shown again without the diagnosis: a number each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_ITEMS = 100
Build = Callable[[int], nn.Module]


def _model(build: Build) -> nn.Module:
    torch.manual_seed(0)
    return build(NUM_ITEMS).eval()


def _items(rows: int, positions: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, NUM_ITEMS + 1, (rows, positions), generator=generator)


def _scores(model: nn.Module, *given: Tensor) -> Tensor:
    with torch.no_grad():
        result = model(*given)
    return result[0] if isinstance(result, tuple) else result


def by_past(build: Build) -> float:
    """Largest change of the scores after the last event when all earlier events change."""
    model, ids, other = _model(build), _items(4, 8, 1), _items(4, 8, 2)
    other[:, -1] = ids[:, -1]
    return float((_scores(model, ids) - _scores(model, other))[:, -1].abs().max())


def by_other_rows(build: Build) -> float:
    """Largest change of the first row's scores when the other rows change."""
    model, ids, other = _model(build), _items(4, 8, 1), _items(4, 8, 2)
    other[0] = ids[0]
    return float((_scores(model, ids) - _scores(model, other))[0].abs().max())


def by_padding(build: Build) -> float:
    """Largest change of scores by five columns of padding, over their spread between histories."""
    model, ids = _model(build), _items(4, 3, 1)
    lengths = (torch.full((4,), 3),) if _takes_lengths(model) else ()
    before = _scores(model, ids, *lengths)
    after = _scores(model, F.pad(ids, (0, 5)), *lengths)
    return float((before - after).abs().max() / before.std(dim=0).mean())


def _takes_lengths(model: nn.Module) -> bool:
    return "item_seq_len" in model.forward.__annotations__


def fails(run: Callable[[], Any]) -> float:
    """1 when it raises, else 0."""
    try:
        run()
    except Exception:
        return 1.0
    return 0.0


def crashes(build: Build, rows: int, positions: int, padding: int = 0) -> float:
    """1 when scoring that many rows and positions raises, else 0."""
    model = _model(build)
    return fails(lambda: _scores(model, F.pad(_items(rows, positions, 1), (0, padding))))


def cannot_be_imported(module: str) -> float:
    """1 when importing it raises, else 0."""
    return fails(lambda: importlib.import_module(module))


def torchxlstm_cell_without_input() -> float:
    """Values that are not finite after a step with the forget gate at 100, the input at -100."""
    from torchxlstm.xlstm import sLSTMBlock

    torch.manual_seed(0)
    block = sLSTMBlock(8, 4, 2)
    with torch.no_grad():
        for gate, value in ((block.Wf, 100.0), (block.Wi, -100.0)):
            for part in gate.blocks:
                part.bias.fill_(value)
        result, _ = block(torch.randn(2, 8), tuple(torch.zeros(4, 2, 8)))
    return float((~torch.isfinite(result)).sum())


def torchxlstm_mlstm_without_input() -> float:
    """Values that are not finite after a step of the mLSTM with the input gate at -120."""
    from torchxlstm.xlstm import mLSTMBlock

    torch.manual_seed(0)
    block = mLSTMBlock(8, 4, 2)
    with torch.no_grad():
        block.Wi.bias.fill_(-120.0)
        result, _ = block(torch.randn(2, 8), tuple(torch.zeros(4, 2, 8)))
    return float((~torch.isfinite(result)).sum())


def authors_gate_gradient() -> float:
    """Gradients of the mLSTM's input gate at -100 that are not finite, of four."""
    from xlstm.blocks.mlstm.backends import parallel_stabilized_simple

    torch.manual_seed(0)
    queries, keys, values = (torch.randn(1, 1, 4, 4) for _ in range(3))
    gate = torch.full((1, 1, 4, 1), -100.0, requires_grad=True)
    forget = torch.zeros(1, 1, 4, 1)
    parallel_stabilized_simple(queries, keys, values, gate, forget).sum().backward()
    return float((~torch.isfinite(gate.grad)).sum())


def by_number_to_come(build: Build) -> float:
    """Largest change of scores after four events when four later ones are left out, over spread."""
    model, ids = _model(build), _items(50, 8, 1)
    before, after = _scores(model, ids)[:, 3], _scores(model, ids[:, :4])[:, 3]
    return float((before - after).abs().max() / before.std(dim=0).mean())


def left_by_padding(build: Build) -> float:
    """Spread of scores between histories of one event and 19 paddings, over that without them."""
    model, ids = _model(build), _items(50, 1, 1)
    alone, padded = (_scores(model, x).double().var(dim=0) for x in (ids, F.pad(ids, (0, 19))))
    return float((padded.mean() / alone.mean()).sqrt())


def between_users(build: Build) -> float:
    """Share of the variance of a module's results that lies between histories, at the start."""
    result = _scores(_model(build), _items(50, 8, 1))
    return float(result.var(dim=0).mean() / result.var())
