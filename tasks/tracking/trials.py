"""Logs the trials of a hyper-parameter search, so that they compare like any other runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.settings import Settings
from tasks.tracking import delivery, state
from tasks.tracking.run import RunLog, now


def begin_search(settings: Settings, workspace: Path) -> RunLog:
    """Begin the parent run of a search in the experiment ``<name> tuning``."""
    with state.edit(workspace) as current:
        entry = current.new_run()
    log = RunLog(workspace, entry)
    log.add(
        "run",
        experiment=experiment_name(settings),
        name=f"search {time.strftime('%Y-%m-%d %H:%M:%S')}",
        time=now(),
        tags={"assay.kind": "search"},
    )
    return log


def log_trial(
    settings: Settings,
    parent: RunLog,
    *,
    model: str,
    number: int,
    params: Mapping[str, Any],
    values: Iterable[tuple[int, float]],
    outcome: str,
    metrics: Mapping[str, float],
) -> None:
    """Log one trial as a child of its search.

    Args:
        settings: All settings.
        parent: What `begin_search` returned.
        model: Name of the model.
        number: Of the trial in its study.
        params: What was drawn.
        values: Epoch and validation NDCG@10 of every epoch.
        outcome: complete, pruned or fail.
        metrics: Single numbers, such as the best value.
    """
    workspace = parent.workspace
    with state.edit(workspace) as current:
        entry = current.new_run()
    log = RunLog(workspace, entry)
    log.add(
        "run",
        experiment=experiment_name(settings),
        parent=parent.entry.key,
        name=f"{model} trial {number}",
        time=now(),
        tags={"assay.model": model, "assay.kind": "trial", "assay.outcome": outcome},
    )
    log.add("params", values={name: str(value) for name, value in params.items()})
    for epoch, value in values:
        log.add_metrics({"val/ndcg_at_10": value}, step=epoch)
    log.add_metrics(metrics, step=0)
    log.end("FAILED" if outcome == "fail" else "FINISHED")


def end_search(parent: RunLog) -> None:
    """Close the parent run and deliver everything."""
    parent.end("FINISHED")
    delivery.warn_if_waiting(delivery.deliver(parent.workspace), parent.workspace)


def experiment_name(settings: Settings) -> str:
    """MLflow experiment of the searches, beside that of the runs."""
    return f"{settings.experiment.name} tuning"
