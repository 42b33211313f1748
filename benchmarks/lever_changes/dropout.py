"""Dropout on the embedded history apart from the blocks' own, and whole events left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.training.assemble import Trial


class EventDropout(nn.Module):
    """Hides whole events of a history while training, then applies another dropout.

    A hidden event's embedding is 0 and the rest is not scaled up: the blocks normalise what they
    read. Its item remains a target.

    Args:
        share: probability that an event is hidden, 0..1.
        inner: what is applied to the events that are left.
    """

    def __init__(self, share: float, inner: nn.Module) -> None:
        super().__init__()
        self.share = share
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Map embedded events (B, S, D), or (B, D) of a step."""
        if self.training:
            kept = torch.rand(x.shape[:-1], device=x.device) >= self.share
            x = x * kept[..., None]
        return self.inner(x)


def hide_events(trial: Trial, share: float) -> Trial:
    """Whole events are hidden, besides the dropout there is."""
    model = trial.parts.model
    model.dropout = EventDropout(share, model.dropout)
    return trial


def drop_embeddings(trial: Trial, share: float) -> Trial:
    """Another dropout on the embedded history; the blocks keep theirs."""
    trial.parts.model.dropout.p = share
    return trial


def drop_in_blocks(trial: Trial, share: float) -> Trial:
    """Another dropout in the blocks; the embedded history keeps its own."""
    for module in trial.parts.model.sequence_model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
    return trial
