"""One trial: a training with drawn settings, stopped early where it can't become the best."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import torch

from tasks.data.prepared import PreparedData
from tasks.training.assemble import assemble
from tasks.training.loop import train
from tasks.training.observer import EpochReport, Observer
from tasks.training.plan import NonFiniteLossError
from tasks.tuning.space import suggest

METRIC = "val/ndcg_at_10"


class Pruner(Observer):
    """Reports every epoch's validation to the study and ends hopeless trainings."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.history: list[dict[str, Any]] = []

    def on_epoch(self, report: EpochReport) -> None:
        """Reports the epoch.

        Raises:
            optuna.TrialPruned: Half of the other trials were better at the same epoch.
        """
        self.history.append(report.as_row())
        self._trial.report(report.values[METRIC], report.epoch)
        self._trial.set_user_attr("epochs", report.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"{METRIC} {report.values[METRIC]:.4f} at {report.epoch}")


def run_trial(
    trial: optuna.Trial,
    model: str,
    data: PreparedData,
    shared: Mapping[str, Any],
    base: Mapping[str, Any],
) -> float:
    """Train once with drawn settings and return the best validation NDCG@10; the test is not read.

    Args:
        trial: What draws and is told.
        model: A neural model.
        data: Prepared data.
        shared: Values of `train.shared`.
        base: Values of `train.<model>`; drawn ones take their place.

    Raises:
        optuna.TrialPruned: It can't become the best, or its loss is not finite.
    """
    section = suggest(trial, model, dict(base))
    start = time.perf_counter()
    watch = Pruner(trial)
    ready = assemble(model, data, shared, section, seed=0)
    trial.set_user_attr("num_parameters", ready.recommender.num_parameters)
    try:
        record = train(ready.parts, ready.plan, observers=[watch])
    except NonFiniteLossError as error:
        raise optuna.TrialPruned(str(error)) from error
    finally:
        trial.set_user_attr("seconds", round(time.perf_counter() - start, 3))
    trial.set_user_attr("best_epoch", record.best_epoch)
    return record.best_value


def load_data(folder: Path) -> PreparedData:
    """Load prepared data with one thread a process, as trials run side by side."""
    torch.set_num_threads(1)
    return PreparedData.load(folder)
