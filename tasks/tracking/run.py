"""The run of one training: what it logs goes to its journal, never straight to a server."""

from __future__ import annotations

import csv
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.tracking import identity, parameters, state
from tasks.tracking.journal import Journal, Record
from tasks.tracking.state import RunEntry

SMALL_FILES = ("record.json", "epochs.jsonl", "steps.jsonl")


def now() -> int:
    """Milliseconds since the epoch, MLflow's unit."""
    return time.time_ns() // 1_000_000


class RunLog:
    """Appends records of one run to its journal."""

    def __init__(self, workspace: Path, entry: RunEntry) -> None:
        self.workspace = workspace
        self.entry = entry
        self.journal = Journal(state.spool_folder(workspace) / entry.journal)

    def add(self, op: str, **values: Any) -> None:
        """Append one record."""
        self.journal.append([{"op": op, "key": self.entry.key, **values}])

    def add_metrics(
        self, values: Mapping[str, float], step: int, kind: str = "summary", count: int = 0
    ) -> None:
        """Append metric points at ``step``; ``count`` is remembered for `progress`.

        Of summaries, those logged already are left out: a stage that was killed and run again finds
        the same numbers, except times, and MLflow would keep both.
        """
        if kind == "summary":
            known = self._summaries()
            values = {
                name: value
                for name, value in values.items()
                if (name, step) not in known
                or (known[name, step] != value and not name.startswith("training/"))
            }
        if values:
            points = [[name, value, now(), step] for name, value in values.items()]
            self.add("metrics", points=points, kind=kind, step=step, count=count)

    def has_begun(self) -> bool:
        """Whether the journal says how the run began, to the last of the records of `begin`."""
        return any(entry.record.get("op") == "params" for entry in self.journal.entries())

    def begin(self, records: Iterable[Record], params: Mapping[str, str]) -> None:
        """Append how the run begins: its records, then its parameters, all in one write."""
        last = {"op": "params", "values": dict(params)}
        key = self.entry.key
        self.journal.append([{**record, "key": key} for record in (*records, last)])

    def _summaries(self) -> dict[tuple[str, int], float]:
        """Last value of every summary logged, by name and step."""
        return {
            (name, step): value
            for entry in self.journal.entries()
            if entry.record.get("op") == "metrics" and entry.record.get("kind") == "summary"
            for name, value, _, step in entry.record["points"]
        }

    def add_tags(self, values: Mapping[str, str]) -> None:
        """Append tags."""
        self.add("tags", values=dict(values))

    def add_copy(self, op: str, source: Path, **values: Any) -> None:
        """Copy a file or folder into the spool and append a record that delivers the copy."""
        if not source.exists():
            return
        copies = state.spool_folder(self.workspace) / "files"
        place = copies / f"{self.entry.key}-{uuid.uuid4().hex}"
        if source.is_dir():
            target = place
            shutil.copytree(source, target)
        else:
            target = place / source.name
            place.mkdir(parents=True)
            shutil.copyfile(source, target)
        self.add(op, path=str(target), **values)

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self.add("end", status=status, time=now())

    def progress(self, kind: str) -> tuple[int, int]:
        """Last step and count logged under ``kind``; (-1, 0) when nothing was."""
        last: tuple[int, int] = (-1, 0)
        for entry in self.journal.entries():
            record: Record = entry.record
            if record.get("op") == "metrics" and record.get("kind") == kind:
                last = max(last, (int(record["step"]), int(record["count"])))
        return last


class ModelRun:
    """What a training logs to. Points an earlier, killed process already logged are skipped."""

    def __init__(self, log: RunLog, model: str, seed: int) -> None:
        self.log = log
        self.model = model
        self.seed = seed
        self._last_epoch, _ = log.progress("epoch")
        self._last_step, self._num_steps = log.progress("steps")

    @property
    def key(self) -> str:
        """Our key of the MLflow run, its tag ``assay.key``."""
        return self.log.entry.key

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters besides the settings, which are logged already; nested ones are fine."""
        self.log.add("params", values=parameters.flatten(values))

    def log_epoch(self, values: Mapping[str, Any]) -> None:
        """Log one object of ``epochs.jsonl`` at its ``epoch``."""
        epoch = int(values["epoch"])
        if epoch > self._last_epoch:
            self._last_epoch = epoch
            self.log.add_metrics(parameters.epoch_values(values), epoch, "epoch")

    def log_steps(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log objects of ``steps.jsonl`` at their ``step``; long trainings are thinned."""
        new = [row for row in rows if int(row["step"]) > self._last_step]
        if not new:
            return
        kept = parameters.kept_records(self._num_steps, len(new))
        first, self._num_steps = self._num_steps, self._num_steps + len(new)
        self._last_step = int(new[-1]["step"])
        time_logged = now()
        points = [
            [name, value, time_logged, int(new[index - first]["step"])]
            for index in kept
            for name, value in parameters.step_values(new[index - first]).items()
        ]
        self.log.add(
            "metrics", points=points, kind="steps", step=self._last_step, count=self._num_steps
        )

    def log_folder(self, folder: Path) -> None:
        """Log what a training left: record, curves, and the model as a loadable pyfunc."""
        for name in SMALL_FILES:
            self.log.add_copy("artifacts", folder / name, folder="training")
        self.log.add_metrics(_summary(folder), 0)
        self.log.add_tags({"assay.fingerprint": identity.fingerprint(folder)})
        if (folder / "model.json").is_file():
            place = state.spool_folder(self.log.workspace) / "files" / f"model-{self.key}"
            copy_model(folder, self.log.workspace, place)
            self.log.add("model", path=str(place), name=self.model)

    def log_files(self, folder: Path) -> None:
        """Log the curves of a training of earlier from its files."""
        for line in _lines(folder / "epochs.jsonl"):
            self.log_epoch(line)
        self.log.add_metrics(_summary(folder), 0)

    # The names the training loop calls.
    on_epoch = log_epoch
    on_steps = log_steps


class SilentRun:
    """Takes everything and logs nothing: tracking is switched off."""

    key = ""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_epoch(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_steps(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def log_folder(self, folder: Path) -> None:
        """Do nothing."""

    on_epoch = log_epoch
    on_steps = log_steps


def copy_model(folder: Path, workspace: Path, place: Path) -> None:
    """Copy a model to ``place``, with the vocabulary and popularity it needs to answer anyone."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copytree(
        folder, place / "model", ignore=shutil.ignore_patterns("*.jsonl", "checkpoint*")
    )
    items = workspace / "data" / "prepared" / "items.csv"
    if items.is_file():
        shutil.copyfile(items, place / "items.csv")
        _save_counts(items.parent, place / "item_counts.npy")


def _save_counts(prepared: Path, path: Path) -> None:
    """Write training events per item, int64 (V,), where there are prepared data."""
    if not (prepared / "train.items.npy").is_file():
        return
    import numpy as np

    with (prepared / "items.csv").open(encoding="utf-8", newline="") as file:
        width = sum(1 for _ in csv.DictReader(file)) + 1
    items = np.load(prepared / "train.items.npy", mmap_mode="r", allow_pickle=False)
    np.save(path, np.bincount(items, minlength=width), allow_pickle=False)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _summary(folder: Path) -> dict[str, float]:
    """Numbers of ``record.json`` that describe the whole training."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    names = ("num_parameters", "best_epoch", "wall_seconds", "cpu_seconds", "peak_memory_mb")
    return {f"training/{name}": float(record[name]) for name in names if record.get(name)}
