"""Can the program memorise a few windows, down to what identical prefixes leave open?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.clipping import without_dropout
from tasks.diagnostics.measurements.loss_oracle import oracle_loss, program_loss
from tasks.diagnostics.measurements.loss_outcome import declared_mean
from tasks.diagnostics.measurements.windows_to_memorise import (
    choose_windows,
    first_places,
    reachable_floor,
)
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

STEPS = 300
LOOK_EVERY = 25

MEMORISED = 0.1
"""Share of what can be learned that may be left; healthy models pass it in 50 to 200 steps."""

ROOM = 0.5
"""Nats between a uniform guess and the floor below which there is nothing to memorise."""

SEEDS = 3
POSITIONS = 16

Means = Literal["own", "rate", "optimiser", "loss"]
ARMS: tuple[tuple[Means, float], ...] = (
    ("own", 1.0),
    ("rate", 10.0),
    ("rate", 0.1),
    ("rate", 100.0),
    ("rate", 0.01),
    ("optimiser", 3e-3),
    ("optimiser", 1e-2),
    ("loss", 3e-3),
)
"""What is tried, one after the other until one memorises: the program's own steps; the same at
multiples of its learning rate; a plain AdamW at this rate on the program's loss; and on the
declared loss recomputed from the logits. What cures names what was broken."""


@dataclass(frozen=True)
class Attempt:
    """One training on the windows: how, and the share of the learnable loss it left."""

    means: Means
    rate: float
    seed: int
    left: float
    steps: int


@dataclass(frozen=True)
class Overfit:
    """Share of the learnable loss that is left, 0 is all learned, 1 nothing; best of what is named.

    Each allows one thing more than the one before it. Of several seeds, the middle one.
    """

    own: float = quantity("share left by the program's own steps")
    any_rate: float = quantity("share left when the learning rate may be another")
    any_optimiser: float = quantity("share left when the optimiser may be a plain AdamW")
    any_loss: float = quantity("share left when the loss may be recomputed from the logits too")
    best_rate: float = quantity("multiple of the program's learning rate that did best")
    steps: int = quantity("optimiser steps of the last training")
    floor: float = quantity("nats left open by identical prefixes")
    uniform: float = quantity("nats of a uniform guess")
    num_rows: int = quantity("windows")
    num_targets: int = quantity("targets")
    seeds: int = quantity("seeds tried")
    budget: int = quantity("optimiser steps of the declared training")


def measure_subset(probe: Probe) -> Overfit:
    """Memorise eight windows."""
    probe.require("deep")
    return memorise(probe, choose_windows(probe, rows=8, positions=POSITIONS))


def measure_one_user(probe: Probe) -> Overfit:
    """Memorise one window of up to ten pairs."""
    probe.require("deep")
    return memorise(probe, choose_windows(probe, rows=1, positions=10))


def memorise(probe: Probe, batch: Batch, **settings: Any) -> Overfit:
    """Train on the windows alone, dropout off, by more and more foreign means until it works.

    A seed that fails by the program's own steps is followed by another, until two agree.

    Args:
        probe: Of the program.
        batch: The windows.
        settings: Overrides of the model's builder.
    """
    task = _Task(probe, batch, settings)
    if task.uniform - task.floor < ROOM:
        raise NotMeasuredError(
            f"windows that can be memorised: identical prefixes leave {task.floor:.2f} of the "
            f"{task.uniform:.2f} nats open"
        )
    found: list[list[Attempt]] = []
    for seed in range(probe.seed, probe.seed + SEEDS):
        found.append(_until_memorised(task, seed, found))
        passed = sum(attempts[0].left <= MEMORISED for attempts in found)
        if passed == 2 or len(found) - passed == 2 or (passed == 1 and len(found) == 1):
            break
    found.sort(key=lambda attempts: ([a.left > MEMORISED for a in attempts], attempts[-1].left))
    middle = found[(len(found) - 1) // 2]
    own = [a for a in middle if a.means in ("own", "rate")]
    return Overfit(
        own=middle[0].left,
        any_rate=min(a.left for a in own),
        any_optimiser=min(a.left for a in middle if a.means != "loss"),
        any_loss=min(a.left for a in middle),
        best_rate=min(own, key=lambda a: a.left).rate,
        steps=middle[-1].steps,
        floor=task.floor,
        uniform=task.uniform,
        num_rows=len(batch.item_ids),
        num_targets=batch.num_targets,
        seeds=len(found),
        budget=steps_in_budget(probe),
    )


def steps_in_budget(probe: Probe) -> int:
    """Return the optimiser steps of a whole declared training."""
    declared = probe.subject.declared
    per_epoch = -(-len(probe.all_batches) // max(declared.accumulate_steps, 1))
    return per_epoch * declared.max_epochs


class _Task:
    """The windows, and how well they are known."""

    def __init__(self, probe: Probe, batch: Batch, settings: Mapping[str, Any]) -> None:
        self.probe, self.batch, self.settings = probe, batch, settings
        self.has_form = probe.subject.declared.loss != "other"
        self.floor = reachable_floor(probe, batch) if self.has_form else 0.0
        self.uniform = declared_mean(probe, [batch], self._alike) if self.has_form else math.inf

    def _alike(self, batch: Batch) -> Tensor:
        shape = (*batch.item_ids.shape, self.probe.data.num_items)
        return torch.zeros(shape, dtype=torch.float64)

    def left(self, model: nn.Module, seed: int) -> float:
        """Share of the learnable loss left, dropout off; of an unknown loss, of first places."""
        model.eval()
        fresh = self.batch._replace(seed=seed)

        def scores(given: Batch) -> Tensor:
            return self.probe.logits(model, given)[..., 1:].double()

        if not self.has_form:
            with torch.no_grad():
                first = scores(fresh).argmax(dim=-1) + 1
            right = int((first == fresh.targets)[fresh.asked].sum())
            return 1.0 - right / max(first_places(self.probe, fresh), 1)
        value = declared_mean(self.probe, [fresh], scores)
        return (value - self.floor) / (self.uniform - self.floor)


def _until_memorised(task: _Task, seed: int, earlier: list[list[Attempt]]) -> list[Attempt]:
    """Try one means after the other; what worked for an earlier seed comes right after the own."""
    worked = [(a[-1].means, a[-1].rate) for a in earlier if a[-1].left <= MEMORISED]
    attempts: list[Attempt] = []
    for means, rate in dict.fromkeys([ARMS[0], *worked, *ARMS[1:]]):
        if means == "loss" and not task.has_form:
            continue
        attempts.append(_attempt(task, seed, means, rate))
        if attempts[-1].left <= MEMORISED:
            break
    return attempts


def _attempt(task: _Task, seed: int, means: Means, rate: float) -> Attempt:
    probe = task.probe
    model = probe.model(seed=seed, **task.settings)
    without_dropout(model)
    if means in ("own", "rate"):
        optimizer = probe.ask("make_optimizer", model)
        for group in optimizer.param_groups:
            group["lr"] *= rate
            group["weight_decay"] = 0.0
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    lowest, done = math.inf, 0
    for done in range(1, STEPS + 1):
        torch.manual_seed(done)
        # A seed of its own per step, so that sampled losses draw new negatives.
        batch = task.batch._replace(seed=seed * STEPS + done)
        if means in ("own", "rate"):
            value = probe.ask("train_step", probe.subject.loss, model, optimizer, batch)
        else:
            value = _plain_step(
                probe, model, optimizer, batch, oracle_loss if means == "loss" else program_loss
            )
        if not math.isfinite(float(value)):
            break
        if done % LOOK_EVERY == 0:
            left = task.left(model, batch.seed + STEPS * STEPS)
            lowest = min(lowest, left if math.isfinite(left) else math.inf)
            if lowest <= MEMORISED:
                break
    return Attempt(means, rate, seed, min(lowest, 1e6), done)


def _plain_step(
    probe: Probe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss_of: Callable[[Probe, nn.Module, Batch], Tensor],
) -> Tensor:
    """One step as a textbook has it: clear, differentiate, clip, step."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(probe, model, batch)
    if not loss.requires_grad:
        return loss.new_tensor(math.nan)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()
