"""A small recommender and histories of unequal lengths for it."""

from __future__ import annotations

import torch

from xlstm_model import SequenceRecommender, XLSTMStack, lengths_to_mask

NUM_ITEMS = 20
DAY = 86_400_000_000
"""Microseconds."""


def make_recommender(dim: int = 8, **settings) -> SequenceRecommender:
    """A float64 recommender whose parameters are away from their initial values."""
    torch.manual_seed(0)
    stack = XLSTMStack(dim, "ms", num_heads=2)
    model = SequenceRecommender(NUM_ITEMS, stack, dim, **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.item_embedding.weight[0].zero_()
    return model.eval()


def make_histories(lengths=(9, 4, 1), seed=1):
    """Right-padded items and times (B, S), and lengths (B,)."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    mask = lengths_to_mask(torch.tensor(lengths), max(lengths))
    items = torch.randint(1, NUM_ITEMS + 1, size, generator=generator)
    times = torch.randint(0, 3 * DAY, size, generator=generator).cumsum(1)
    return torch.where(mask, items, 0), times, torch.tensor(lengths)
