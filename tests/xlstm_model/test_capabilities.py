"""What each cell is for, shown by training: state tracking for sLSTM, recall for mLSTM.

Every model of a comparison gets the same batches, the same number of steps at most and the same
rule for stopping: when its score on a fixed set of sequences has not improved for a while. What was
seen is in docs/experiment_log.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model import XLSTMStack

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

WIDTH = 32
BATCH = 64
EVERY = 100


class Attention(nn.Module):
    """Two causal pre-norm transformer layers with sinusoidal positions."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        layer = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 4 * width, **layer) for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        place = torch.arange(x.shape[1])[:, None]
        rate = torch.exp(torch.arange(x.shape[2] // 2) * (-2 * math.log(10_000) / x.shape[2]))
        x = x + 0.1 * torch.cat([(place * rate).sin(), (place * rate).cos()], dim=-1)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=future)
        return self.norm(x), None


class Lstm(nn.Module):
    """Two layers of ``nn.LSTM``."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.lstm(x)[0], None


class Labeller(nn.Module):
    """Embedding, sequence model, one label per position."""

    def __init__(self, num_tokens: int, core: nn.Module, num_labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, WIDTH)
        self.core = core
        self.out = nn.Linear(WIDTH, num_labels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.core(self.embedding(tokens))[0])


@dataclass
class Outcome:
    """How a training went."""

    model: nn.Module
    score: float
    steps: int
    parameters: int


def train_until_it_stops(
    build: Callable[[], nn.Module],
    batches: Iterator[tuple[Tensor, Tensor]],
    measure: Callable[[nn.Module], float],
    *,
    learning_rate: float,
    max_steps: int,
    patience: int,
    solved: float = 0.999,
) -> Outcome:
    """Train until solved, until nothing has improved for ``patience`` steps, or ``max_steps``."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0)
    best, best_step, step = 0.0, 0, 0
    for step, (tokens, labels) in enumerate(batches, start=1):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % EVERY == 0:
            score = measure(model)
            if score > best + 1e-3:
                best, best_step = score, step
            if score >= solved or step - best_step >= patience or step >= max_steps:
                break
    return Outcome(model, best, step, sum(p.numel() for p in model.parameters()))


@torch.no_grad()
def _accuracy(model: nn.Module, tokens: Tensor, labels: Tensor) -> float:
    asked = labels >= 0
    return (model(tokens).argmax(-1) == labels)[asked].double().mean().item()


def _parity_batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        length = int(torch.randint(3, 41, (), generator=generator))
        bits = torch.randint(0, 2, (BATCH, length), generator=generator)
        yield bits, bits.cumsum(1) % 2


def _last_parity(model: nn.Module, length: int) -> float:
    """Accuracy at the last of ``length`` bits, on 512 fixed sequences."""
    bits = torch.randint(0, 2, (512, length), generator=torch.Generator().manual_seed(99))
    labels = (bits.cumsum(1) % 2).masked_fill(torch.arange(length) < length - 1, -1)
    return _accuracy(model, bits, labels)


def _all_parities(model: nn.Module) -> float:
    """Mean accuracy over the positions of 40 bits, the longest length trained on."""
    bits = torch.randint(0, 2, (256, 40), generator=torch.Generator().manual_seed(98))
    return _accuracy(model, bits, bits.cumsum(1) % 2)


def test_slstm_tracks_parity_beyond_trained_lengths():
    """Trained on up to 40 bits, asked at 40, 256 and 1,024; beside mLSTM and attention."""
    contestants = {
        "sLSTM": (lambda: XLSTMStack(WIDTH, "ss", num_heads=2, inner_multiple=16), 3e-3),
        "mLSTM": (lambda: XLSTMStack(WIDTH, "mm", num_heads=2, inner_multiple=16), 3e-3),
        "attention": (Attention, 1e-3),
    }
    seen = {}
    for name, (core, rate) in contestants.items():
        outcome = train_until_it_stops(
            lambda core=core: Labeller(2, core(), 2),
            _parity_batches(1),
            _all_parities,
            learning_rate=rate,
            max_steps=10_000,
            patience=1000,
            # One mistake within the trained lengths becomes one in a hundred far beyond them.
            solved=1.0,
        )
        at = {n: _last_parity(outcome.model, n) for n in (40, 256, 1024)}
        seen[name] = at
        print(name, outcome.parameters, "parameters", outcome.steps, "steps", outcome.score, at)
    assert min(seen["sLSTM"].values()) > 0.99
    for other in ("mLSTM", "attention"):
        assert seen[other][256] < 0.7


NUM_PAIRS, NUM_KEYS, NUM_VALUES = 16, 32, 32


def _recall_batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Key, value, key, value, ..., then all keys in another order; asked for their values."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        keys = torch.rand(BATCH, NUM_KEYS, generator=generator).argsort(1)[:, :NUM_PAIRS]
        values = torch.randint(0, NUM_VALUES, (BATCH, NUM_PAIRS), generator=generator)
        order = torch.rand(BATCH, NUM_PAIRS, generator=generator).argsort(1)
        pairs = torch.stack([keys, values + NUM_KEYS], dim=2).flatten(1)
        tokens = torch.cat([pairs, keys.gather(1, order)], dim=1)
        labels = torch.full_like(tokens, -1)
        labels[:, 2 * NUM_PAIRS :] = values.gather(1, order)
        yield tokens, labels


def _recall(model: nn.Module) -> float:
    """Share of values recalled, over eight fixed batches."""
    batches = _recall_batches(99)
    return sum(_accuracy(model, *next(batches)) for _ in range(8)) / 8


def test_mlstm_recalls_many_associations():
    """Sixteen pairs, each asked for once; beside an LSTM of the same size or larger."""
    contestants = {
        "mLSTM": lambda: XLSTMStack(WIDTH, "mm", num_heads=2, inner_multiple=16),
        "LSTM": Lstm,
    }
    seen = {}
    for name, core in contestants.items():
        seen[name] = train_until_it_stops(
            lambda core=core: Labeller(NUM_KEYS + NUM_VALUES, core(), NUM_VALUES),
            _recall_batches(1),
            _recall,
            learning_rate=3e-3,
            max_steps=12_000,
            patience=2000,
        )
        outcome = seen[name]
        print(name, outcome.parameters, "parameters", outcome.steps, "steps", outcome.score)
    assert seen["LSTM"].parameters >= seen["mLSTM"].parameters
    assert seen["mLSTM"].score > 0.98
    assert seen["LSTM"].score < 0.5
