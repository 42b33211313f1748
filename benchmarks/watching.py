"""What it costs to be diagnosed: `python -m benchmarks.watching`.

On one generated log, with the default settings of one model:

- the exact checks that `assay run` makes before training, in processor seconds;
- two trainings from the same seed, epoch by epoch in turn, one with the recorder and one without:
  the ratio of their processor seconds, the seconds spent inside the recorder, and whether every
  loss and metric is the same to the last bit.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import kept
from tasks.data import fetch_stage, prepare_stage
from tasks.data.prepared import PreparedData
from tasks.diagnostics.check_stage import check_model
from tasks.diagnostics.diagnose_stage import read_inputs, subject_of
from tasks.settings import Settings, settings_from_dict
from tasks.training.assemble import assemble
from tasks.training.batches import Batch
from tasks.training.gates import has_gates, look_inside
from tasks.training.loop import TrainingRecord, train
from tasks.training.observer import EpochReport, Observer, StepReport
from tasks.training.record import Recorder


class TimedRecorder(Recorder):
    """The recorder of every training, which counts the processor seconds it takes."""

    seconds = 0.0

    def on_step_start(self, model: nn.Module, batch: Batch, step: int) -> None:
        """Look inside the blocks, timed."""
        started = time.thread_time()
        super().on_step_start(model, batch, step)
        self.seconds += time.thread_time() - started

    def on_gradients(self, model: nn.Module, step: int) -> None:
        """Measure gradients, timed."""
        started = time.thread_time()
        super().on_gradients(model, step)
        self.seconds += time.thread_time() - started

    def on_step(self, report: StepReport) -> None:
        """Write a step, timed."""
        started = time.thread_time()
        super().on_step(report)
        self.seconds += time.thread_time() - started

    def on_epoch(self, report: EpochReport) -> None:
        """Write an epoch, timed."""
        started = time.thread_time()
        super().on_epoch(report)
        self.seconds += time.thread_time() - started


class InTurn(Observer):
    """Lets two trainings run one epoch at a time, so that both meet the same machine."""

    def __init__(self, own: threading.Semaphore, other: threading.Semaphore) -> None:
        self._own, self._other = own, other

    def on_epoch(self, report: EpochReport) -> None:
        """Hand over at the end of an epoch; random numbers go on where this training left them."""
        state = torch.get_rng_state()
        self._other.release()
        self._own.acquire()
        torch.set_rng_state(state)


class Training(threading.Thread):
    """One training in a thread of its own; `seconds` are its processor seconds."""

    def __init__(self, trial: Any, observers: list[Observer], own: Any, other: Any) -> None:
        super().__init__()
        self._trial, self._observers = trial, [*observers, InTurn(own, other)]
        self._own, self._other = own, other
        self.record: TrainingRecord | None = None
        self.seconds = 0.0

    def run(self) -> None:
        """Wait for the turn, train, and let the other finish."""
        self._own.acquire()
        started = time.thread_time()
        self.record = train(self._trial.parts, self._trial.plan, observers=self._observers)
        self.seconds = time.thread_time() - started
        self._other.release()


def measure(settings: Settings, model: str, workspace: Path) -> dict[str, Any]:
    """Check, then train with and without the recorder."""
    fetch_stage.run(settings, workspace)
    prepare_stage.run(settings, workspace)
    findings = workspace / "artifacts" / "checks" / "findings"
    findings.mkdir(parents=True)
    started = time.process_time()
    subject = subject_of(settings, model, *read_inputs(settings, workspace))
    diagnosis = check_model(settings, findings, subject, model)
    checks = time.process_time() - started

    data = PreparedData.load(workspace / "data" / "prepared")
    shared = settings.train.shared.model_dump()
    section = getattr(settings.train, model).model_dump()
    trials = [assemble(model, data, shared, section, seed=0) for _ in range(2)]
    inside = look_inside if has_gates(trials[0].parts.model) else None
    recorder = TimedRecorder(workspace / "records", shared["record_every_steps"], inside)
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    watched = Training(trials[0], [recorder], turns[0], turns[1])
    alone = Training(trials[1], [], turns[1], turns[0])
    for training in (watched, alone):
        training.start()
    for training in (watched, alone):
        training.join()
    return {
        "model": model,
        "events": int(data.train.offsets[-1]),
        "epochs": watched.record.num_epochs,
        "steps": watched.record.num_steps,
        "checks_found": diagnosis.headline,
        "checks_seconds": round(checks, 2),
        "training_seconds_watched": round(watched.seconds, 2),
        "training_seconds_alone": round(alone.seconds, 2),
        "recorder_ratio": round(watched.seconds / alone.seconds, 4),
        "recorder_seconds": round(recorder.seconds, 2),
        "recorder_share": round(recorder.seconds / alone.seconds, 4),
        "checks_and_recorder_share": round((checks + recorder.seconds) / alone.seconds, 4),
        "same_losses": _curves(watched.record) == _curves(alone.record),
    }


def _curves(record: TrainingRecord) -> list[dict[str, float]]:
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in record.history]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="xlstm")
    parser.add_argument("--epochs", type=int, default=0, help="0: as long as the settings say")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = {"max_epochs": options.epochs} if options.epochs else {}
    settings = settings_from_dict(
        {
            "data": {"source": "synthetic", "synthetic": {"num_users": options.users}},
            "train": {"shared": plan},
            "tracking": {"enabled": False},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        found = measure(settings, options.model, Path(folder))
    print(json.dumps(found, indent=2))
    kept.write(found, options.json)


if __name__ == "__main__":
    main()
