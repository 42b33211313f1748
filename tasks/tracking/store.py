"""Carries records into MLflow. Every operation may be repeated without changing the result.

Runs are found by our own key, metric points keep the time they were logged at (MLflow stores
equal points once), parameters and tags are set to the same value again.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from tasks.tracking import address, connection
from tasks.tracking.connection import RefusedRecordError
from tasks.tracking.journal import Record
from tasks.tracking.parameters import FIRST_METRIC

MAX_METRICS = 1000
MAX_PARAMS = 100
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow show the list of runs and their charts; it guesses a kind by itself otherwise."""


class Store:
    """MLflow behind one method, `apply`."""

    def __init__(self, uri: str) -> None:
        """Connect; a local database is created or upgraded by one process at a time.

        Raises:
            StoreAwayError: the server or database can't be reached.
        """
        connection.configure()
        self.uri = uri
        self._runs: dict[str, tuple[str, str]] = {}
        self._experiments: dict[str, str] = {}
        with connection.translated(uri):
            self.client = connection.connect(uri)

    def apply(self, record: Record) -> None:
        """Carry out one record; half a line, cut off by a kill or a power cut, is none.

        Whoever was killed while writing it writes it again.

        Raises:
            StoreAwayError: try again later.
            RefusedRecordError: never will be accepted.
        """
        if not record:
            return
        operation = _OPERATIONS.get(str(record.get("op")))
        if operation is None:
            raise RefusedRecordError(f"unreadable record {str(record)[:200]!r}")
        with connection.translated(self.uri):
            try:
                operation(self, record)
            except (KeyError, TypeError) as error:
                raise RefusedRecordError(
                    f"record {str(record)[:200]!r} is incomplete: {error}"
                ) from error

    def answers(self) -> bool:
        """Whether the store can be reached at all."""
        try:
            with connection.translated(self.uri):
                self.client.search_experiments(max_results=1)
        except (connection.StoreAwayError, RefusedRecordError):
            return False
        return True

    def exclusive(self) -> AbstractContextManager[Any]:
        """Hold a SQLite store for this process: many writers wait rather than fail as locked."""
        return connection.locked(self.uri)

    def run_id(self, key: str) -> str:
        """MLflow's id of the run with our key."""
        return self._locate(key)[0]

    def experiment_id_of(self, key: str) -> str:
        """MLflow's id of the experiment the run with our key is in."""
        return self._locate(key)[1]

    def original_run(self, tag: str, value: str) -> Any | None:
        """Oldest finished run, not itself a link, whose ``tag`` has ``value``."""
        found = self.client.search_runs(
            [each.experiment_id for each in self.client.search_experiments()],
            f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time ASC"],
        )
        return next((run for run in found if "assay.reused_from" not in run.data.tags), None)

    def experiment_id(self, name: str) -> str:
        """Id of an experiment, created where it is missing."""
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise RefusedRecordError(
                    f"the MLflow experiment {name!r} was deleted; restore it, or choose another "
                    "experiment.name in params.yaml"
                )
            self._experiments[name] = (
                found.experiment_id
                if found is not None
                else self.client.create_experiment(
                    name, address.artifact_root(self.uri), tags=EXPERIMENT_TAGS
                )
            )
        return self._experiments[name]

    def _locate(self, key: str) -> tuple[str, str]:
        if key not in self._runs:
            found = self.client.search_runs(
                [each.experiment_id for each in self.client.search_experiments()],
                f"tags.`assay.key` = '{key}'",
                max_results=1,
            )
            if not found:
                raise RefusedRecordError(f"no run with key {key}; was it deleted?")
            self._runs[key] = (found[0].info.run_id, found[0].info.experiment_id)
        return self._runs[key]

    def _run(self, record: Record) -> None:
        experiment = self.experiment_id(record["experiment"])
        tags = dict(record["tags"])
        tags["assay.key"] = record["key"]
        if record.get("parent"):
            tags["mlflow.parentRunId"] = self.run_id(record["parent"])
        found = self.client.search_runs(
            [experiment], f"tags.`assay.key` = '{record['key']}'", max_results=1
        )
        if found:
            run_id = found[0].info.run_id
            self.client.update_run(run_id, status="RUNNING")
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)
        else:
            run = self.client.create_run(
                experiment, start_time=record["time"], tags=tags, run_name=record["name"]
            )
            run_id = run.info.run_id
        self._runs[record["key"]] = (run_id, experiment)

    def _params(self, record: Record) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in record["values"].items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(
                self.run_id(record["key"]), params=params[start : start + MAX_PARAMS]
            )

    def _metrics(self, record: Record) -> None:
        from mlflow.entities import Metric

        # MLflow lists metrics as they arrived first, and its compare page opens on the first.
        ordered = sorted(record["points"], key=lambda point: point[0] != FIRST_METRIC)
        points = [Metric(name, value, time, step) for name, value, time, step in ordered]
        for start in range(0, len(points), MAX_METRICS):
            self.client.log_batch(self.run_id(record["key"]), points[start : start + MAX_METRICS])

    def _tags(self, record: Record) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, str(value)) for name, value in record["values"].items()]
        self.client.log_batch(self.run_id(record["key"]), tags=tags)

    def _dataset(self, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=record["name"],
            digest=record["digest"][:36],
            source_type="local",
            source=record["source"],
            profile=record["profile"],
        )
        tag = InputTag("mlflow.data.context", "training and evaluation")
        self.client.log_inputs(self.run_id(record["key"]), [DatasetInput(dataset, [tag])])

    def _artifacts(self, record: Record) -> None:
        path = Path(record["path"])
        run_id = self.run_id(record["key"])
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), record["folder"] or None)
        elif path.is_file():
            self.client.log_artifact(run_id, str(path), record["folder"] or None)
        else:
            self._check_delivered(run_id, record)

    def _check_delivered(self, run_id: str, record: Record) -> None:
        """A journal that lost its mark is delivered again, when its copies are gone already."""
        name = Path(record["path"]).name
        found = {
            Path(each.path).name
            for each in self.client.list_artifacts(run_id, record["folder"] or None)
        }
        if not found or (Path(name).suffix and name not in found):
            raise RefusedRecordError(f"{record['path']} is gone")

    def _model(self, record: Record) -> None:
        from tasks.tracking import served

        served.log_model(self, record)

    def _link(self, record: Record) -> None:
        from tasks.tracking import served

        served.link_model(self, record)

    def _promote(self, record: Record) -> None:
        from tasks.tracking import champion

        champion.promote(self, record)

    def _reopen(self, record: Record) -> None:
        self.client.update_run(self.run_id(record["key"]), status="RUNNING")

    def _views(self, record: Record) -> None:
        from tasks.tracking import views

        views.save_views(self, record)

    def _end(self, record: Record) -> None:
        self.client.set_terminated(self.run_id(record["key"]), record["status"], record["time"])


_OPERATIONS = {
    "run": Store._run,
    "params": Store._params,
    "metrics": Store._metrics,
    "tags": Store._tags,
    "dataset": Store._dataset,
    "artifacts": Store._artifacts,
    "model": Store._model,
    "link": Store._link,
    "promote": Store._promote,
    "views": Store._views,
    "reopen": Store._reopen,
    "end": Store._end,
}


def discard_copy(record: Record) -> None:
    """Delete the copy in the spool that a delivered record names, and the folder made for it."""
    if not record.get("path"):
        return
    path = Path(record["path"])
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()
