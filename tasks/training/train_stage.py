"""The stage ``train``: reads prepared data, trains one model with one seed, writes its folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.data.integrity import sha256_of
from tasks.data.prepared import PreparedData
from tasks.data.storage import replaced_folder
from tasks.evaluation.evaluate import rank_split
from tasks.evaluation.metrics import mean_metrics
from tasks.settings import Settings
from tasks.tracking import ModelRun, SilentRun, model_run
from tasks.training import warm_start
from tasks.training.assemble import Trial, assemble
from tasks.training.checkpoint import CheckpointFolder
from tasks.training.distributed import (
    AnyStops,
    Group,
    ReadOnlyCheckpoints,
    join_group,
    share_training,
)
from tasks.training.gates import has_gates
from tasks.training.graph_look import GraphLook
from tasks.training.interrupt import stop_on_signals
from tasks.training.loop import train
from tasks.training.memory import named_out_of_memory
from tasks.training.models import CountModel, model_spec
from tasks.training.observer import EpochReport, Observer, RunStart
from tasks.training.progress import ProgressLines
from tasks.training.provenance import peak_gpu_memory_mb, peak_memory_mb, versions
from tasks.training.record import EPOCHS_FILE, STEPS_FILE, Recorder
from tasks.training.validation import CUTOFFS

RECORD_FILE = "record.json"


class TrackingObserver(Observer):
    """Passes epochs and recorded steps on to the tracking run as they happen.

    Comes after the recorder: on a resume the recorder's files, cut back to the checkpoint, say what
    a killed process may have recorded without passing it on. What arrived is skipped by the run.
    """

    def __init__(self, tracked: ModelRun | SilentRun, recorder: Recorder) -> None:
        self._tracked = tracked
        self._recorder = recorder

    def on_start(self, start: RunStart) -> None:
        """Logs again what was recorded before the checkpoint."""
        self._tracked.on_steps(self._recorder.read_rows(STEPS_FILE))
        for row in self._recorder.read_rows(EPOCHS_FILE):
            self._tracked.on_epoch(row)

    def on_epoch(self, report: EpochReport) -> None:
        """Logs the epoch and the steps recorded since the last one."""
        self._tracked.on_steps(self._recorder.take_rows())
        self._tracked.on_epoch(report.as_row())


def run(
    settings: Settings,
    workspace: Path,
    *,
    model: str,
    seed: int = 0,
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Trains one model, or resumes its training where a killed one stopped.

    Writes ``artifacts/models/<model>/seed_<seed>/`` in one move at the end; until then everything
    is in ``.assay/checkpoints/``, which no other stage owns. Under ``torchrun`` all processes train
    together and the first one alone writes.

    Args:
        settings: all settings.
        workspace: folder with ``data/prepared``.
        model: a name of `tasks.training.models.MODELS`.
        seed: seed of everything random.
        observers: told of steps and epochs, besides the recorder and tracking.

    Returns:
        Small values: ``model``, ``seed``, ``best_epoch``, ``val/ndcg_at_10``, ``wall_seconds``,
        ``folder``.
    """
    spec = model_spec(model)
    data = PreparedData.load(workspace / "data" / "prepared", verify=True)
    torch.set_num_threads(settings.train.shared.num_threads)
    about = {
        "model": model,
        "seed": seed,
        "data_hash": data.manifest.get("data_hash", ""),
        "settings": {
            "shared": settings.train.shared.model_dump(),
            model: getattr(settings.train, model).model_dump(),
        },
        "versions": versions(),
    }
    if settings.train.shared.warm_start:
        # What it begins from is part of what the training is: a checkpoint is of the same or none.
        about["begins_from"] = warm_start.identity(_beginning(workspace, about))
    target = workspace / "artifacts" / "models" / model / f"seed_{seed}"
    names = ("model", "seed", "best_epoch", "val/ndcg_at_10", "wall_seconds")
    with join_group(settings.train.shared.device) as group:
        if not group.is_first:
            if not isinstance(spec, CountModel):
                _help(data, about, workspace, group, num_observers=3 + len(observers))
            return {"model": model, "seed": seed, "rank": group.rank}
        with model_run(settings, workspace, model, seed) as tracked:
            if isinstance(spec, CountModel):
                record = _fit(spec, data, about, target)
                tracked.log_epoch(json.loads((target / EPOCHS_FILE).read_text(encoding="utf-8")))
            else:
                record = _train(data, about, workspace, target, tracked, observers, group)
            tracked.log_folder(target)
    return {name: record[name] for name in names} | {"folder": str(target)}


def _fit(
    spec: CountModel, data: PreparedData, about: Mapping[str, Any], target: Path
) -> dict[str, Any]:
    """Fits and saves a count model; its one row of `EPOCHS_FILE` is epoch 0."""
    wall, cpu = time.perf_counter(), time.process_time()
    settings = about["settings"]
    train_data = data.train
    recommender = spec.fit(
        train_data.items, train_data.offsets, data.num_items, settings[spec.name], about["seed"]
    )
    seconds = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    max_len = settings["shared"]["max_seq_len"]
    ranks = rank_split(recommender.score, data, data.val, max_len=max_len).ranks
    metrics = {f"val/{name}": value for name, value in mean_metrics(ranks, CUTOFFS).items()}
    epoch = {"epoch": 0, "step": 0, **metrics, "seconds": seconds["wall_seconds"]}
    with replaced_folder(target) as folder:
        recommender.save(folder)
        (folder / EPOCHS_FILE).write_text(json.dumps(epoch) + "\n", encoding="utf-8")
        (folder / STEPS_FILE).write_text("", encoding="utf-8")
        fitted = {"best_epoch": 0, "num_epochs": 0, "num_steps": 0, "stop_reason": "fitted"}
        return _write_record(folder, about, {**fitted, **metrics, **seconds})


def _train(
    data: PreparedData,
    about: Mapping[str, Any],
    workspace: Path,
    target: Path,
    tracked: ModelRun | SilentRun,
    observers: Sequence[Observer],
    group: Group,
) -> dict[str, Any]:
    """Trains and saves a neural model."""
    model, seed = about["model"], about["seed"]
    trial = _assemble(data, about, workspace)
    state, identity = _checkpoints(workspace, about)
    shared = about["settings"]["shared"]
    inside = GraphLook(shared["max_seq_len"]) if has_gates(trial.parts.model) else None
    recorder = Recorder(state, shared["record_every_steps"], inside)
    section = about["settings"][model]
    sizes = {
        "train.shared.batch_size": shared["batch_size"],
        "train.shared.max_seq_len": shared["max_seq_len"],
        f"train.{model}.embedding_dim": section["embedding_dim"],
    }
    with stop_on_signals() as should_stop, named_out_of_memory(sizes):
        result = train(
            share_training(trial.parts, group),
            trial.plan,
            observers=[
                recorder,
                TrackingObserver(tracked, recorder),
                ProgressLines(f"{model} seed {seed}"),
                *observers,
            ],
            checkpoints=CheckpointFolder(state, identity),
            should_stop=_told(should_stop, trial, group),
        )
    best = result.history[result.best_epoch - 1]
    values = {
        **result.as_row(),
        **{name: value for name, value in best.items() if name.startswith("val/")},
        "num_parameters": trial.recommender.num_parameters,
        "num_skipped_users": trial.batches.num_skipped,
        "device": str(next(trial.parts.model.parameters()).device),
        "precision": trial.plan.precision,
        "num_processes": group.size,
        "peak_gpu_memory_mb": peak_gpu_memory_mb(),
    }
    with replaced_folder(target) as folder:
        trial.recommender.save(folder)
        for name in (EPOCHS_FILE, STEPS_FILE):
            shutil.copyfile(state / name, folder / name)
        record = _write_record(folder, about, values)
    if shared["warm_start"]:
        place = warm_start.place_of(workspace, model, seed)
        vocabulary = data.folder / warm_start.VOCABULARY
        warm_start.keep(target, vocabulary, place, _training_of(about))
    # Checkpoints of this model and seed under other settings will not be asked for again.
    for old in state.parent.glob(f"{model}_seed_{seed}_*"):
        shutil.rmtree(old)
    return record


def _help(
    data: PreparedData, about: Mapping[str, Any], workspace: Path, group: Group, num_observers: int
) -> None:
    """Trains along as one of the processes that write nothing."""
    trial = _assemble(data, about, workspace)
    with stop_on_signals() as should_stop:
        train(
            share_training(trial.parts, group),
            trial.plan,
            # As many as the first process has: checkpoints hold a state of each.
            observers=[Observer() for _ in range(num_observers)],
            checkpoints=ReadOnlyCheckpoints(*_checkpoints(workspace, about)),
            should_stop=_told(should_stop, trial, group),
        )


def _assemble(data: PreparedData, about: Mapping[str, Any], workspace: Path) -> Trial:
    """The training, begun from the last one where the settings say so and there is one."""
    model, settings, seed = about["model"], about["settings"], about["seed"]
    trial = assemble(model, data, settings["shared"], settings[model], seed=seed)
    if settings["shared"]["warm_start"]:
        place = _beginning(workspace, about)
        found = warm_start.begin(trial.parts.model, data.folder / warm_start.VOCABULARY, place)
        if found is not None:
            print(f"{model} seed {seed} {found}", flush=True)
    return trial


def _training_of(about: Mapping[str, Any]) -> str:
    """Names a training by its data, settings and versions, whatever it began from."""
    named = {name: value for name, value in about.items() if name != "begins_from"}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _beginning(workspace: Path, about: Mapping[str, Any]) -> Path:
    """Folder of what a training begins from, the same however often it is made."""
    place = warm_start.place_of(workspace, about["model"], about["seed"])
    return warm_start.source(place, _training_of(about))


def _checkpoints(workspace: Path, about: Mapping[str, Any]) -> tuple[Path, str]:
    """Folder of a training's checkpoints, and the identity they are checked against."""
    identity = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    name = f"{about['model']}_seed_{about['seed']}_{identity[:12]}"
    return workspace / ".assay" / "checkpoints" / name, identity


def _told(should_stop: Callable[[], bool], trial: Trial, group: Group) -> Callable[[], bool]:
    if group.size == 1:
        return should_stop
    return AnyStops(should_stop, next(trial.parts.model.parameters()).device)


def _write_record(
    folder: Path, about: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes record.json and returns its content."""
    files = ("model.json", "model.safetensors")
    sha256 = {name: sha256_of(folder / name) for name in files if (folder / name).is_file()}
    record = {**about, **values, "sha256": sha256, "peak_memory_mb": peak_memory_mb()}
    text = json.dumps(record, indent=2) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")
    return record
