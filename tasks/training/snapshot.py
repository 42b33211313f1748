"""The whole state of a training as tensors and JSON, and back.

Weights, best weights, optimiser, position in the data, random number generators, early stopping and
observers: what `CheckpointFolder` stores.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.training.observer import Observer


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs finished.
        batch: batches of the current epoch that are done.
        step: optimiser steps made.
        best_value: best monitored metric so far; -inf before the first validation.
        best_epoch: epoch (from 1) of the best metric; 0 before the first.
        history: one row per finished epoch.
        last_finite_loss: loss of the last checked step; NaN before the first.
        num_targets: valid positions trained on in the current epoch.
        epoch_seconds, wall_seconds, cpu_seconds: time spent on the current epoch and in total,
            across resumes.
        sums: (3,) float64 on the training device, over the steps of the current epoch: loss times
            valid positions, gradient norm, clipped steps.
        best_weights: weights of the best epoch; empty before the first.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_value: float = -float("inf")
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    last_finite_loss: float = float("nan")
    num_targets: int = 0
    epoch_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def begin_next_epoch(self) -> None:
        """Counts the epoch as finished and empties what is counted per epoch."""
        self.epoch += 1
        self.batch = self.num_targets = 0
        self.epoch_seconds = 0.0
        self.sums.zero_()


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every entry of the model's state dict."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    observers: Sequence[Observer],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything needed to go on from here, as (tensors by name, JSON-serialisable state)."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best_weights.items()}
    tensors["progress.sums"] = progress.sums
    optimizer_tensors, optimizer_state = _pack_optimizer(optimizer)
    random_tensors, random_state = _pack_random()
    plain = {
        name: value
        for name, value in vars(progress).items()
        if name not in {"sums", "best_weights"}
    }
    state = {
        "progress": plain,
        "optimizer": optimizer_state,
        "random": random_state,
        "observers": [observer.state() for observer in observers],
    }
    return tensors | optimizer_tensors | random_tensors, state


def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    observers: Sequence[Observer],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Progress:
    """Puts everything back as `capture` found it; returns the progress.

    Raises:
        ValueError: the state is of a run with another number of observers.
        CheckpointError: an observer lost what it had written; nothing was changed.
    """
    if len(state["observers"]) != len(observers):
        raise ValueError(
            f"the checkpoint was written with {len(state['observers'])} observers; this run has "
            f"{len(observers)}. Resume with the same ones, or remove the checkpoint folder."
        )
    # First, as they may refuse: what is not restored has to stay as it was.
    for observer, saved in zip(observers, state["observers"], strict=True):
        observer.load_state(saved)
    device = next(model.parameters()).device
    model.load_state_dict(_with_prefix(tensors, "model."))
    _unpack_optimizer(optimizer, tensors, state["optimizer"])
    _unpack_random(tensors, state["random"])
    best = {name: t.to(device) for name, t in _with_prefix(tensors, "best.").items()}
    sums = tensors["progress.sums"].to(device)
    return Progress(**state["progress"], sums=sums, best_weights=best)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Any optimiser's state: tensors apart, scalars as JSON."""
    full = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for number, entries in full["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    return tensors, {"scalars": scalars, "groups": full["param_groups"]}


def _unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    entries: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in state["scalars"].items()
    }
    for path, tensor in _with_prefix(tensors, "optimizer.").items():
        number, name = path.split(".", 1)
        entries.setdefault(int(number), {})[name] = tensor
    groups = [
        {name: tuple(v) if isinstance(v, list) and name == "betas" else v for name, v in g.items()}
        for g in state["groups"]
    ]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _pack_random() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States of every generator a library may draw from: torch (all devices), numpy, Python."""
    tensors = {"random.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        for number, generator in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random.cuda.{number}"] = generator
    name, keys, position, has_gauss, gauss = np.random.get_state()
    tensors["random.numpy"] = torch.from_numpy(keys.astype(np.int64))
    version, internal, gauss_next = random.getstate()
    return tensors, {
        "numpy": [name, int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def _unpack_random(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["random.torch"])
    devices = _with_prefix(tensors, "random.cuda.")
    if torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([devices[str(n)] for n in range(len(devices))])
    name, position, has_gauss, gauss = state["numpy"]
    keys = tensors["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
