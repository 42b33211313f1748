"""What a training leaves behind to read: one JSON line per epoch, and one per recorded step.

Measuring happens every N steps only, so that it costs a few percent at most; on a GPU, where a step
takes milliseconds, more rarely if need be. It reads gradients and weights and changes nothing.
Names follow the metrics of the tracking server: ``grad/...``, ``update/...``, ``gate/...``,
``state/...``, ``saturated/...``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.training.batches import Batch
from tasks.training.checkpoint import CheckpointError
from tasks.training.observer import EpochReport, Observer, RunStart, StepReport
from tasks.training.pace import RecordingPace
from tasks.training.parameter_names import parameter_group

EPOCHS_FILE = "epochs.jsonl"
STEPS_FILE = "steps.jsonl"

GPU_SHARE = 0.04
"""Largest share of a training's time that recording may take on a GPU."""

LookInside = Callable[[nn.Module, Batch], dict[str, float]]
"""(model, batch) -> numbers by their names in a line; see `tasks.training.gates.look_inside`."""


def grouped_norms(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """L2 norm of all tensors of each parameter group, as scalars on their device.

    Args:
        tensors: (parameter name, gradient or weight or difference).
    """
    named = list(tensors)
    if not named:
        return {}
    norms = torch._foreach_norm([tensor for _, tensor in named])
    squares: dict[str, Tensor] = {}
    for (name, _), norm in zip(named, norms, strict=True):
        group = parameter_group(name)
        square = norm.float().square()
        squares[group] = squares[group] + square if group in squares else square
    return {group: square.sqrt() for group, square in squares.items()}


class Recorder(Observer):
    """Writes ``epochs.jsonl`` and ``steps.jsonl`` into a folder.

    A step's line holds ``step``, ``epoch``, ``train/loss``, ``learning_rate``, ``grad/norm``
    (global, before clipping), ``grad/clipped``, ``grad/<group>`` (norms before clipping),
    ``update/<group>`` (norm of the step's change over the norm of the weights, of matrices: vectors
    such as scales around 0 have no size to compare with) and what ``look_inside`` returns:
    gates, state norms along a sequence, saturation.

    Args:
        folder: made where missing; has to survive a kill, as the checkpoints have.
        every_steps: steps between two recorded ones, on a GPU at least; the first step is recorded
            too.
        look_inside: called before recorded steps; changes nothing either.
    """

    def __init__(
        self, folder: Path, every_steps: int = 20, look_inside: LookInside | None = None
    ) -> None:
        if every_steps < 1:
            raise ValueError(f"every_steps is {every_steps}; expected at least 1.")
        self.folder = folder
        self.every_steps = every_steps
        self._look_inside = look_inside
        self._inside: dict[str, float] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._model: nn.Module | None = None
        self._pace: RecordingPace | None = None
        self._rows: list[dict[str, Any]] = []
        self._sizes = {EPOCHS_FILE: 0, STEPS_FILE: 0}
        folder.mkdir(parents=True, exist_ok=True)

    def on_start(self, start: RunStart) -> None:
        """Cuts the files back to what the checkpoint knows of; to nothing in a new run."""
        self._model = start.model
        if next(start.model.parameters()).is_cuda:
            self._pace = RecordingPace(self.every_steps, GPU_SHARE)
            self._pace.start(start.resumed_step)
        for name, size in self._sizes.items():
            path = self.folder / name
            path.touch()
            os.truncate(path, size)

    def wants_step(self, step: int) -> bool:
        """True for steps 1, N, 2N, ...; on a GPU as often as `RecordingPace` finds affordable."""
        if self._pace is not None:
            return self._pace.wants(step)
        return step == 1 or step % self.every_steps == 0

    def on_step_start(self, model: nn.Module, batch: Batch, step: int) -> None:
        """Looks inside the blocks."""
        if self._pace is not None:
            torch.cuda.synchronize()
            self._pace.begin(step)
        if self._look_inside is not None:
            self._inside = self._look_inside(model, batch)

    def on_gradients(self, model: nn.Module, step: int) -> None:
        """Measures gradients and keeps the weights from before the update."""
        with torch.no_grad():
            self._gradients = grouped_norms(
                (name, p.grad) for name, p in model.named_parameters() if p.grad is not None
            )
            self._before = {
                name: p.detach().clone()
                for name, p in model.named_parameters()
                if p.requires_grad and p.ndim > 1
            }

    def on_step(self, report: StepReport) -> None:
        """Writes the step's line."""
        with torch.no_grad():
            after = dict(self._model.named_parameters())
            weights = grouped_norms(self._before.items())
            changes = grouped_norms(
                (name, after[name].detach() - old) for name, old in self._before.items()
            )
        # One transfer for all numbers: each would make a GPU wait.
        scalars = {
            "train/loss": report.loss,
            "grad/norm": report.grad_norm,
            **{f"grad/{group}": norm for group, norm in self._gradients.items()},
            **{
                f"update/{group}": change / weights[group].clamp(min=1e-12)
                for group, change in changes.items()
            },
        }
        values = torch.stack([scalar.detach().float() for scalar in scalars.values()]).tolist()
        row = {"step": report.step, "epoch": report.epoch, "learning_rate": report.learning_rate}
        row |= dict(zip(scalars, values, strict=True))
        row["grad/clipped"] = row["grad/norm"] > report.max_grad_norm
        row |= self._inside
        self._write(STEPS_FILE, row)
        self._rows.append(row)
        self._gradients, self._before = {}, {}
        if self._pace is not None:  # the numbers have come: the step has ended on the GPU too
            self._pace.end(report.step)

    def take_rows(self) -> list[dict[str, Any]]:
        """Rows of the steps recorded since the last call, or since the start or resume."""
        rows, self._rows = self._rows, []
        return rows

    def on_epoch(self, report: EpochReport) -> None:
        """Writes the epoch's line."""
        self._write(EPOCHS_FILE, report.as_row())

    def state(self) -> dict[str, Any]:
        """Sizes of the files, after everything written is on the disk."""
        for name in self._sizes:
            with (self.folder / name).open("ab") as stream:
                os.fsync(stream.fileno())
        return {"sizes": dict(self._sizes)}

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of one of the files so far."""
        text = (self.folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes the sizes up; `on_start` cuts the files back to them.

        Raises:
            CheckpointError: a file lost what the checkpoint says is in it.
        """
        for name, size in state["sizes"].items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found < size:
                raise CheckpointError(
                    f"{path} holds {found} bytes, the checkpoint was written after {size}."
                )
        self._sizes = dict(state["sizes"])

    def _write(self, name: str, row: Mapping[str, Any]) -> None:
        line = json.dumps(row).encode() + b"\n"
        with (self.folder / name).open("ab") as stream:
            stream.write(line)
        self._sizes[name] += len(line)
