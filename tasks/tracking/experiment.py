"""One parent run per experiment and one child per model and seed, whichever way stages start.

A flow announces an experiment; under plain ``dvc repro`` the first stage that logs begins it and
the report ends it. Models whose stage was skipped are linked by `link`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tasks.settings import Settings
from tasks.tracking import continuing, delivery, identity, parameters, state
from tasks.tracking.companion import Companion
from tasks.tracking.journal import Record
from tasks.tracking.run import ModelRun, RunLog, SilentRun, now
from tasks.tracking.state import RunEntry, TrackingState

DELIVER_LATER = "ASSAY_DELIVER_LATER"
"""Environment variable a flow sets for its stages: it delivers itself what short stages logged."""
UNFOLDED = {"mlflow.runType": "evaluation"}
"""MLflow's list of runs opens with the children of this type in view, others folded away."""


def begin_experiment(
    workspace: Path, tags: Mapping[str, str], settings: Settings | None = None
) -> None:
    """Announce an experiment: the next stage that logs begins a parent run with these tags.

    The parent of a flow that was killed or interrupted is continued where settings and data are
    still the same. Any other open one is closed as KILLED. Nothing is created if no stage has
    anything to log.

    Args:
        workspace: Folder of the experiment.
        tags: Of the parent.
        settings: All settings; without them no parent is continued.
    """
    with state.edit(workspace) as current:
        if settings is None or not continuing.take_over(current, settings):
            _close_parent(workspace, current, "KILLED")
        current.announced = dict(tags)


def end_experiment(workspace: Path, status: str = "FINISHED") -> None:
    """Close the open parent run, if there is one, and deliver what waits.

    Args:
        workspace: Folder of the experiment.
        status: FINISHED, FAILED or KILLED; the next flow may go on in a killed one.
    """
    with state.edit(workspace) as current:
        if status == "KILLED":
            continuing.leave(workspace, current)
        else:
            _close_parent(workspace, current, status)
        current.announced = None
    if delivery.count_waiting(workspace):
        delivery.warn_if_waiting(delivery.deliver(workspace), workspace)


def parent_log(settings: Settings, workspace: Path) -> RunLog:
    """The journal of the open parent run, begun now if there is none."""
    with state.edit(workspace) as current:
        return RunLog(workspace, _open_parent(settings, workspace, current))


@contextmanager
def model_run(
    settings: Settings, workspace: Path, model: str, seed: int
) -> Iterator[ModelRun | SilentRun]:
    """The child run of one training, closed as FINISHED, FAILED or (if interrupted) KILLED.

    A run that an earlier process left unfinished under the same settings is continued.

    Args:
        settings: All settings; the parameters are taken from them.
        workspace: Folder of the experiment.
        model: Name of the model.
        seed: Seed of the training.
    """
    if not settings.tracking.enabled:
        yield SilentRun()
        return
    run = _open_child(settings, workspace, model, seed)
    companion = Companion(run.log, workspace)
    companion.start()
    status = "KILLED"
    try:
        yield run
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        run.log.add_tags({"assay.error": f"{type(error).__name__}: {error}"[:500]})
        raise
    finally:
        companion.stop()
        run.log.end(status)
        _finish_child(workspace, model, seed, status)
        deliver_unless_later(workspace)


def deliver_unless_later(workspace: Path) -> None:
    """Deliver now, except in a stage of a flow that delivers itself; what waits is on the disk."""
    delivery.flush(workspace)
    if not os.environ.get(DELIVER_LATER):
        delivery.warn_if_waiting(delivery.deliver(workspace), workspace)


def open_run(
    settings: Settings,
    workspace: Path,
    current: TrackingState,
    model: str,
    seed: int,
    tags: Mapping[str, str],
) -> RunEntry:
    """Begin a child of the open parent and log its name, parameters and data set."""
    parent = _open_parent(settings, workspace, current)
    entry = current.new_run(identity.settings_hash(_params(settings, model, seed)))
    current.children[state.child_name(model, seed)] = entry
    # Before anything is logged: killed in between, the run is found and begun, not made twice.
    state.save(workspace, current)
    _begin_child(RunLog(workspace, entry), settings, parent, model, seed, tags)
    return entry


def _begin_child(
    log: RunLog,
    settings: Settings,
    parent: RunEntry,
    model: str,
    seed: int,
    tags: Mapping[str, str],
) -> None:
    """Log a child's name, parent, parameters and data set."""
    workspace = log.workspace
    run = {
        "op": "run",
        "experiment": settings.experiment.name,
        "parent": parent.key,
        "name": f"{model} seed {seed}",
        "time": now(),
        "tags": {**UNFOLDED, "assay.model": model, "assay.seed": str(seed)}
        | {**_source(workspace), **tags},
    }
    log.begin([run, *_dataset(settings, workspace)], _params(settings, model, seed))


def _dataset(settings: Settings, workspace: Path) -> list[Record]:
    """Records of the prepared data by name and hash; none where there is no manifest."""
    manifest = continuing.read_manifest(workspace)
    if not manifest:
        return []
    digest = str(manifest.get("data_hash", ""))
    dataset = {
        "op": "dataset",
        "name": settings.data.source,
        "digest": digest,
        "source": json.dumps({"source": settings.data.source, "path": "data/prepared"}),
        "profile": json.dumps(manifest.get("counts", {})),
    }
    return [dataset, {"op": "tags", "values": {"assay.data_hash": digest}}]


def _open_child(settings: Settings, workspace: Path, model: str, seed: int) -> ModelRun:
    wanted = identity.settings_hash(_params(settings, model, seed))
    name = state.child_name(model, seed)
    with state.edit(workspace) as current:
        _settle(settings, workspace, current)
        found = current.children.get(name) if current.parent else None
        if found and found.settings_hash == wanted and _may_continue(found, current):
            log = RunLog(workspace, found)
            if found.status == "KILLED":
                log.add("reopen")
            found.status = "RUNNING"
            if not log.has_begun():
                parent = _open_parent(settings, workspace, current)
                _begin_child(log, settings, parent, model, seed, {})
            log.add_tags({"assay.resumed": str(now())})
            return ModelRun(log, model, seed)
        if found and found.status in state.DONE:
            # The same model again: this is the next experiment.
            _close_parent(workspace, current, "FINISHED")
        elif found and found.status == "RUNNING":
            RunLog(workspace, found).end("KILLED")
        entry = open_run(settings, workspace, current, model, seed, {})
    return ModelRun(RunLog(workspace, entry), model, seed)


def _may_continue(found: RunEntry, current: TrackingState) -> bool:
    """Unfinished runs are; within one flow a repeated stage is a retry, not a new training."""
    by_flow = current.parent is not None and current.parent.by_flow
    return found.status not in state.DONE or by_flow


def _finish_child(workspace: Path, model: str, seed: int, status: str) -> None:
    with state.edit(workspace) as current:
        entry = current.children.get(state.child_name(model, seed))
        if entry is not None:
            entry.status = status


def _params(settings: Settings, model: str, seed: int) -> dict[str, str]:
    return parameters.model_parameters(settings.model_dump(mode="json"), model, seed)


def _source(workspace: Path) -> dict[str, str]:
    commit = identity.git_commit(workspace)
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "assay"}
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def _open_parent(settings: Settings, workspace: Path, current: TrackingState) -> RunEntry:
    _settle(settings, workspace, current)
    entry = current.parent
    if entry is None:
        delivery.prune(workspace, keep=set())
        entry = current.new_run(continuing.experiment_hash(settings))
        entry.data_hash = continuing.data_hash(workspace)
        entry.by_flow = current.announced is not None
        current.parent = entry
        state.save(workspace, current)
    log = RunLog(workspace, entry)
    if log.has_begun():
        return entry
    run = {
        "op": "run",
        "experiment": settings.experiment.name,
        "name": f"{_run_name(settings, workspace)} {time.strftime('%Y-%m-%d %H:%M:%S')}",
        "time": now(),
        "tags": {**_source(workspace), **(current.announced or {}), "assay.kind": "experiment"},
    }
    log.begin([run, *_dataset(settings, workspace)], _shared_params(settings))
    return entry


def _settle(settings: Settings, workspace: Path, current: TrackingState) -> None:
    """Go on in a parent that a flow left, or close it where settings or data are others now."""
    parent = current.parent
    if parent is None or parent.status not in continuing.LEFT:
        return
    if continuing.may_go_on(parent, settings, workspace):
        continuing.go_on(workspace, current, parent)
    else:
        _close_parent(workspace, current, "KILLED")


def _run_name(settings: Settings, workspace: Path) -> str:
    """Name of the run's folder below ``runs/``, by which people know it; else the experiment's."""
    return workspace.name if workspace.parent.name == "runs" else settings.experiment.name


def _shared_params(settings: Settings) -> dict[str, str]:
    values = settings.model_dump(mode="json")
    return parameters.flatten(
        {
            "experiment": values["experiment"],
            "evaluate": values["evaluate"],
        }
    )


def _close_parent(workspace: Path, current: TrackingState, status: str) -> None:
    if current.parent is None:
        return
    for entry in current.children.values():
        if entry.status == "RUNNING":
            RunLog(workspace, entry).end("KILLED")
    if status != current.parent.status:
        RunLog(workspace, current.parent).end(status)
    current.parent = None
    current.children = {}
    current.evaluated = False
