"""One training in one process and the same one in several: are they the same, and how fast?

    torchrun --standalone --nproc-per-node 2 -m benchmarks.distributed --json FILE

Runs on the GPUs, one per process, through NCCL; without GPUs on the CPU through gloo. Needs
PyTorch, NumPy and safetensors. The first process trains an xLSTM alone while the others wait; then
all train the same model on the same batches together. Without dropout and in float32 losses and
weights have to agree up to the order of sums. Speed is measured with dropout, on GPUs in bf16: one
process, all processes on the same batches, and all on batches as many times larger.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks import kept
from tasks.training.batches import Batch, WindowBatches
from tasks.training.distributed import Group, SharedStep, join_group
from tasks.training.objective import FullCrossEntropy
from tasks.training.plan import TrainingPlan
from tasks.training.step import StepResult, make_optimizer, train_step
from xlstm_model import SequenceRecommender, XLSTMStack

WARM_UP_STEPS = 5
Step = Callable[..., StepResult]


@dataclass(frozen=True)
class Shape:
    """What is trained."""

    windows: int = 128
    """Per batch, of all processes together."""
    length: int = 200
    """Events of a window."""
    width: int = 128
    num_items: int = 3416
    pattern: str = "sm"
    dropout: float = 0.0


SMALL = Shape(windows=16, length=16, width=16, num_items=50)
"""For the CPU."""


@dataclass(frozen=True)
class Trained:
    """What some steps left."""

    losses: list[float]
    weights: Tensor
    moved: float
    """Norm of the change of all weights together."""
    steps_per_second: float
    events_per_second: float


def batches(shape: Shape, device: torch.device) -> Iterator[Batch]:
    """Batches without end: users walk along the items and jump now and then."""
    generator = np.random.default_rng(0)
    users, events = shape.windows * 8, shape.length + 1
    jumps = np.where(generator.random((users, events)) < 0.8, 1, shape.num_items // 3)
    items = np.cumsum(jumps, axis=1) % shape.num_items + 1
    source = WindowBatches(
        items.reshape(-1).astype(np.int32),
        np.arange(users + 1) * events,
        max_seq_len=shape.length,
        batch_size=shape.windows,
        seed=0,
        device=device,
    )
    epoch = 0
    while True:
        yield from source.epoch(epoch)
        epoch += 1


def make_model(shape: Shape, device: torch.device) -> nn.Module:
    """The same weights at every call."""
    torch.manual_seed(0)
    core = XLSTMStack(shape.width, shape.pattern, num_heads=4, dropout=shape.dropout)
    return SequenceRecommender(shape.num_items, core, shape.width, dropout=shape.dropout).to(device)


def train(shape: Shape, steps: int, precision: str, device: torch.device, step: Step) -> Trained:
    """Make ``steps`` steps and time those after the first few."""
    model = make_model(shape, device)
    plan = TrainingPlan(max_epochs=1, precision=precision)
    optimizer, objective = make_optimizer(model, plan), FullCrossEntropy()
    before = flat(model)
    losses: list[Tensor] = []
    events, started = 0, 0.0
    for number, batch in zip(range(steps + WARM_UP_STEPS), batches(shape, device), strict=False):
        if number == WARM_UP_STEPS:
            synchronize(device)
            events, started = 0, time.perf_counter()
        losses.append(step(model, objective, batch, optimizer, plan).loss)
        events += batch.num_targets
    synchronize(device)
    seconds = time.perf_counter() - started
    after = flat(model)
    return Trained(
        losses=torch.stack(losses).tolist(),
        weights=after,
        moved=float((after - before).norm()),
        steps_per_second=steps / seconds,
        events_per_second=events / seconds,
    )


def flat(model: nn.Module) -> Tensor:
    """All weights as one float32 vector."""
    return torch.cat([p.detach().flatten().float() for p in model.parameters()]).clone()


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(alone: Trained, together: Trained) -> dict[str, float]:
    """How far two trainings are apart."""
    pairs = zip(alone.losses, together.losses, strict=True)
    return {
        "first_loss": alone.losses[0],
        "last_loss": alone.losses[-1],
        "largest_relative_loss_difference": max(abs(a - b) / abs(a) for a, b in pairs),
        "weights_apart_over_weights_moved": float((alone.weights - together.weights).norm())
        / alone.moved,
    }


def speeds(trained: Trained) -> dict[str, float]:
    """Steps and events of a second."""
    return {
        "steps_per_second": round(trained.steps_per_second, 2),
        "events_per_second": round(trained.events_per_second),
    }


def measure(group: Group, shape: Shape, steps: int, device: torch.device) -> dict[str, Any]:
    """Everything; what processes other than the first return is of no use."""
    shared = SharedStep(group)

    def by_first(shape: Shape, precision: str) -> Trained | None:
        found = train(shape, steps, precision, device, train_step) if group.is_first else None
        dist.barrier()
        return found

    alone = by_first(shape, "float32")
    together = train(shape, steps, "float32", device, shared)
    real = replace(shape, dropout=0.2)
    precision = "bf16" if device.type == "cuda" else "float32"
    fast_alone = by_first(real, precision)
    fast = train(real, steps, precision, device, shared)
    larger = replace(real, windows=real.windows * group.size)
    fast_larger = train(larger, steps, precision, device, shared)
    if alone is None or fast_alone is None:
        return {}
    return {
        "processes": group.size,
        "backend": dist.get_backend(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "shape": asdict(shape),
        "steps": steps,
        "one_against_all": compare(alone, together),
        "speed_precision": precision,
        "one": speeds(fast_alone),
        "all_same_batch": speeds(fast),
        "all_larger_batch": speeds(fast_larger),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--cpu", action="store_true", help="through gloo, where GPUs are too")
    options = parser.parse_args()
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        parser.error("start it with torchrun --standalone --nproc-per-node 2 (or more)")
    with join_group("cpu" if options.cpu else "auto") as group:
        on_gpu = torch.cuda.is_available() and not options.cpu
        device = (
            torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        )
        found = measure(group, Shape() if on_gpu else SMALL, options.steps, device)
        if group.is_first:
            print(json.dumps(found, indent=1), flush=True)
            kept.write(found, options.json)


if __name__ == "__main__":
    main()
