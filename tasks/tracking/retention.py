"""Which MLflow runs and spool files are old enough to go, and how they go."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from tasks.tracking import address, connection, delivery, state
from tasks.tracking.connection import StoreAwayError
from tasks.tracking.journal import Journal

if TYPE_CHECKING:
    from tasks.tracking.store import Store

PARENTS = "tags.`assay.kind` = 'experiment'"


@dataclass(frozen=True)
class OldExperiment:
    """A parent run and its children, to be deleted."""

    name: str
    run_ids: tuple[str, ...]
    """The parent's first."""


def old_experiments(workspace: Path, keep: int) -> list[OldExperiment]:
    """Parent runs beyond the newest ``keep`` of each MLflow experiment, oldest first.

    Kept whatever their age: runs in progress, the newest that finished, the one that trained the
    champion, and those that runs which are kept point at.

    Args:
        workspace: Folder whose store is looked at.
        keep: Parent runs of each experiment that stay.

    Raises:
        StoreAwayError: MLflow does not answer.
    """
    uri = address.store_uri(workspace)
    path = address.sqlite_path(uri)
    if path is not None and not path.exists():
        return []
    store = delivery.open_store(uri)
    old: list[OldExperiment] = []
    with connection.translated(uri):
        needed = _champion_runs(store)
        for experiment in store.client.search_experiments():
            old += _old_of(store, experiment.experiment_id, keep, needed)
    return old


def _old_of(store: Store, experiment_id: str, keep: int, needed: set[str]) -> list[OldExperiment]:
    client = store.client
    parents = _all_runs(client, experiment_id, PARENTS)
    children = _all_runs(client, experiment_id, "tags.`mlflow.parentRunId` != ''")
    by_parent: dict[str, list[Any]] = {}
    for child in children:
        by_parent.setdefault(child.data.tags["mlflow.parentRunId"], []).append(child)
    finished = next((run.info.run_id for run in parents if run.info.status == "FINISHED"), "")
    kept = {run.info.run_id for run in parents[:keep]} | {finished}
    kept |= {run.info.run_id for run in parents if run.info.status == "RUNNING"}
    old: list[OldExperiment] = []
    for parent in parents:
        own = by_parent.get(parent.info.run_id, [])
        ids = (parent.info.run_id, *(child.info.run_id for child in own))
        if parent.info.run_id in kept or needed.intersection(ids):
            # Newest first: what a kept run was taken from is older than it.
            needed |= {child.data.tags.get("assay.reused_from", "") for child in own}
        else:
            old.append(OldExperiment(parent.info.run_name, ids))
    return old[::-1]


def _all_runs(client: Any, experiment_id: str, query: str) -> list[Any]:
    """All runs that match, newest first."""
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, order_by=["attributes.start_time DESC"], page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _champion_runs(store: Store) -> set[str]:
    """Runs of the versions that an alias points at."""
    return {
        store.client.get_model_version(model.name, version).run_id
        for model in store.client.search_registered_models()
        for version in model.aliases.values()
    }


def remove_experiments(workspace: Path, old: Iterable[OldExperiment]) -> None:
    """Delete runs with their models, versions and files; only marked as deleted on a server.

    Args:
        workspace: Folder whose store is cleaned.
        old: What `old_experiments` returned.

    Raises:
        StoreAwayError: MLflow does not answer, or can't free the space.
    """
    run_ids = [run_id for experiment in old for run_id in experiment.run_ids]
    if not run_ids:
        return
    uri = address.store_uri(workspace)
    store = delivery.open_store(uri)
    with store.exclusive(), connection.translated(uri):
        for run_id in run_ids:
            _remove_models(store, run_id)
            store.client.delete_run(run_id)
    if address.is_server(uri):
        return
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
    command += ["--tracking-uri", uri, "--run-ids", ",".join(run_ids)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StoreAwayError(
            f"the deleted runs still take space, as `mlflow gc` failed: {done.stderr[-300:]}"
        )


def _remove_models(store: Store, run_id: str) -> None:
    client = store.client
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)
    experiment_id = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
        root = address.sqlite_path(store.uri)
        place = urlparse(model.artifact_location)
        folder = Path(unquote(place.path))
        if place.scheme == "file" and root and folder.is_relative_to(root.parent / "mlartifacts"):
            shutil.rmtree(folder, ignore_errors=True)


def old_spool_files(workspace: Path) -> list[Path]:
    """Journals that were delivered whole and belong to no open run, and copies nobody waits for."""
    folder = state.spool_folder(workspace)
    current = state.read(workspace)
    entries = [*current.children.values(), *([current.parent] if current.parent else [])]
    open_journals = {entry.journal for entry in entries}
    journals = [Journal(path) for path in sorted(folder.glob("[0-9]*.jsonl"))]
    waited_for = {
        Path(path).relative_to(folder / "files").parts[0]
        for journal in journals
        for entry in journal.entries(journal.delivered())
        if (path := entry.record.get("path", "")) and Path(path).is_relative_to(folder / "files")
    }
    done = [j for j in journals if j.path.name not in open_journals and not j.num_waiting()]
    marks = [path for j in done for path in (j.path, j.path.with_suffix(".delivered"))]
    copies = [path for path in (folder / "files").glob("*") if path.name not in waited_for]
    return [*(path for path in marks if path.exists()), *copies]
