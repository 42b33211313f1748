"""Logs a model in MLflow's pyfunc flavour, and links a model of an earlier experiment."""

from __future__ import annotations

import csv
import importlib.metadata
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.tracking import identity, served_code
from tasks.tracking.journal import Record

if TYPE_CHECKING:
    from tasks.tracking.store import Store

REQUIRED = ("torch", "safetensors", "numpy", "scipy", "scikit-learn", "pandas", "mlflow")
NUM_EXAMPLE_ITEMS = 3


def log_model(store: Store, record: Record) -> None:
    """Log the folder of a model as a pyfunc model of its run, unless the run has one already."""
    from mlflow.entities import LoggedModelOutput

    run_id = store.run_id(record["key"])
    if model_id(store, run_id):
        return
    folder = Path(record["path"])
    client = store.client
    experiment_id = store.experiment_id_of(record["key"])
    # A delivery that was killed in the middle has made one already.
    begun = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    logged = next(
        (each for each in begun if each.name == record["name"] and each.status != "READY"), None
    ) or client.create_logged_model(experiment_id, name=record["name"], source_run_id=run_id)
    # The one that was begun may be the run's already, and a run takes a model once.
    if logged.model_id not in _models_of(store, run_id):
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model"
        _save(folder, path, run_id, logged.model_id)
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")


def _save(folder: Path, path: Path, run_id: str, model: str) -> None:
    """Write an MLflow model around what `run.copy_model` made, to ``path``."""
    with warnings.catch_warnings():
        # MLflow warns of its own type hints on import, and of missing ones while saving; the
        # signature is given.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import pandas as pd
        from mlflow.models import Model

        mlflow.pyfunc.save_model(
            str(path),
            mlflow_model=Model(run_id=run_id, model_id=model),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": str(folder)},
            code_paths=served_code.copy_code(path.parent / "code"),
            signature=_signature(),
            input_example=pd.DataFrame({"history": [_example_history(folder / "items.csv")]}),
            pip_requirements=requirements(),
        )


def link_model(store: Store, record: Record) -> None:
    """Tell where a linked run comes from and give it the same logged model."""
    run_id = store.run_id(record["key"])
    original = None
    if record["stage_hash"]:
        original = store.original_run("assay.stage_hash", record["stage_hash"])
    if original is None:
        original = store.original_run("assay.fingerprint", record["fingerprint"])
    if original is not None:
        store.client.set_tag(run_id, "assay.reused_from", original.info.run_id)
    if model_id(store, run_id):
        return
    found = model_id(store, original.info.run_id) if original is not None else ""
    if found:
        from mlflow.entities import LoggedModelOutput

        store.client.log_outputs(run_id, [LoggedModelOutput(found, step=0)])
    elif identity.fingerprint(Path(record["folder"])) == record["fingerprint"]:
        _log_from_files(store, record)


def model_id(store: Store, run_id: str) -> str:
    """Id of the run's logged model that is ready; empty when there is none."""
    for found in _models_of(store, run_id):
        if store.client.get_logged_model(found).status == "READY":
            return found
    return ""


def _models_of(store: Store, run_id: str) -> list[str]:
    """Ids of the run's logged models, ready or not."""
    outputs = store.client.get_run(run_id).outputs
    return [str(output.model_id) for output in outputs.model_outputs] if outputs else []


def download_model(store: Store, run_id: str, folder: Path) -> Path:
    """Copy the logged model of a run to ``folder``; what `run.copy_model` made is returned."""
    import mlflow.artifacts

    place = mlflow.artifacts.download_artifacts(
        artifact_uri=store.client.get_logged_model(model_id(store, run_id)).artifact_location,
        dst_path=str(folder),
        tracking_uri=store.uri,
    )
    return next(path.parent for path in Path(place).rglob("items.csv"))


def requirements() -> list[str]:
    """Pinned packages a loaded model needs; the project's own code travels with it."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIRED]


def _log_from_files(store: Store, record: Record) -> None:
    from tasks.tracking.run import copy_model

    folder = Path(record["folder"])
    workspace = folder.parents[3]
    with tempfile.TemporaryDirectory() as place:
        copy_model(folder, workspace, Path(place) / "model")
        log_model(store, {**record, "path": str(Path(place) / "model")})


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(DataType.string), "history"),
                ColSpec(Array(DataType.double), "times", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(Array(DataType.string), "items"),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(DataType.string, "answered_by"),
                ColSpec(Array(DataType.string), "unknown"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("top_k", DataType.long, 10),
                ParamSpec("filter_seen", DataType.boolean, False),
            ]
        ),
    )


def _example_history(items: Path) -> list[str]:
    """The first items of the vocabulary."""
    with items.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [row["raw_id"] for row, _ in zip(rows, range(NUM_EXAMPLE_ITEMS), strict=False)]
