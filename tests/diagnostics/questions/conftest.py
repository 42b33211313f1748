"""The healthy small program after a training of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.subject import Subject, Trained

EPOCHS = 40


def train_toy(subject: Subject, seed: int, epochs: int = EPOCHS) -> Trained:
    """Train by the subject's own parts; keep the best validation's weights, as a loop does."""
    prepared = subject.prepared()
    subject = subject.replace(ready=prepared)
    model = subject.build_model(prepared.data.num_items, seed)
    optimizer = subject.make_optimizer(model)
    rows: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    best: tuple[float, int, dict[str, torch.Tensor]] = (-1.0, 0, {})
    for epoch in range(epochs):
        losses = []
        for batch in subject.make_batches(prepared, seed, epoch):
            torch.manual_seed(len(steps) + seed)
            losses.append(float(subject.train_step(subject.loss, model, optimizer, batch)))
            steps.append({"step": len(steps) + 1, "epoch": epoch + 1, "train/loss": losses[-1]})
        model.eval()
        metrics = subject.evaluate(subject, model, "val")
        row = {"epoch": epoch + 1, "step": len(steps), "train/loss": sum(losses) / len(losses)}
        rows.append(row | metrics | {"learning_rate": optimizer.param_groups[0]["lr"]})
        if metrics["val/ndcg_at_10"] > best[0]:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            best = (metrics["val/ndcg_at_10"], epoch + 1, weights)
    model.load_state_dict(best[2])
    model.eval()
    return Trained(
        model=model,
        epochs=tuple(rows),
        steps=tuple(steps),
        record={"best_epoch": best[1], "stop_reason": "max_epochs", "num_epochs": epochs},
        metrics=subject.evaluate(subject, model, "test"),
    )


@pytest.fixture(scope="session")
def trained(toy: Callable[..., Subject]) -> Callable[..., Probe]:
    """`trained(loss=...)`: a probe of the toy, trained with some parts exchanged."""

    def make(epochs: int = EPOCHS, mode: str = "after_training", **parts: Any) -> Probe:
        subject = toy(**({"train": partial(train_toy, epochs=epochs)} | parts))
        return Probe(subject.replace(trained=train_toy(subject, 0, epochs)), mode)

    return make


@pytest.fixture(scope="session")
def healthy_trained(trained: Callable[..., Probe]) -> Probe:
    """The healthy program, trained, shared: measurements are cached and change nothing."""
    return trained()
