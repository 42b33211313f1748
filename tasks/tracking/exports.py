"""Adds an exported program to the run of the training it comes from."""

from __future__ import annotations

from pathlib import Path

from tasks.tracking import experiment, state
from tasks.tracking.run import RunLog

FOLDER = "export"


def log_export(workspace: Path, model: str, seed: int, folder: Path) -> None:
    """Log the files of an export as artifacts of the newest run of a model and seed.

    Args:
        workspace: Folder of the experiment.
        model: The model.
        seed: Its seed.
        folder: What was exported.

    Raises:
        ValueError: no run of this training is known here.
    """
    entry = state.read(workspace).children.get(state.child_name(model, seed))
    if entry is None:
        raise ValueError(
            f"no MLflow run of {model} with seed {seed} is known in {workspace}; expected one from "
            "`assay run` with tracking.enabled. Export without --mlflow, or run it again."
        )
    RunLog(workspace, entry).add_copy("artifacts", folder, folder=FOLDER)
    experiment.deliver_unless_later(workspace)
