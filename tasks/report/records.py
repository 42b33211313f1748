"""Reads what the stages left on disk. Whatever is absent is left out of the page, and said."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """One finished training: its summary, a row per epoch, a row per recorded step."""

    model: str
    seed: int
    record: Row
    epochs: list[Row]
    steps: list[Row]


@dataclass(frozen=True)
class Records:
    """Everything the report is made of.

    Attributes:
        comparison: Tables by split and ranking rule; empty where nothing was evaluated.
        by_history_length: Rows of quality by history length.
        by_item_popularity: Rows of quality by popularity of the target.
        best_possible: Best possible metrics on synthetic data; empty otherwise.
        findings: The diagnosis; empty where it did not run.
        manifest: The prepared data's manifest.
        source: Where the raw log came from.
        trainings: One per model and seed.
        plots: What the diagnosis measured to be drawn, by name; empty where it did not run.
        checks: Findings before training, by model; empty where none were asked for.
        explanations: One object per explained user; empty where none were made.
    """

    comparison: Row
    by_history_length: list[Row]
    by_item_popularity: list[Row]
    best_possible: Row
    findings: Row
    manifest: Row
    source: Row
    trainings: list[Training]
    plots: Row = field(default_factory=dict)
    checks: dict[str, Row] = field(default_factory=dict)
    explanations: list[Row] = field(default_factory=list)


NAMED_PLOTS = ("gates", "attention", "map", "paths")
"""Plots whose rows name an item."""

EXPLANATIONS = Path("artifacts") / "report" / "explanations.json"


class MissingRecordError(ValueError):
    """A file the report can't do without is absent or damaged."""


def read_records(workspace: Path, models: tuple[str, ...], seeds: tuple[int, ...]) -> Records:
    """Read the records of a workspace.

    Raises:
        MissingRecordError: the evaluation is absent, or a file is not what a stage writes.
    """
    evaluation = workspace / "artifacts" / "evaluation"
    if not (evaluation / "comparison.json").is_file():
        raise MissingRecordError(
            f"{evaluation / 'comparison.json'} does not exist. Run the stage evaluate first "
            "(`dvc repro evaluate`)."
        )
    folder = workspace / "artifacts" / "models"
    comparison = read_json(evaluation / "comparison.json")
    tables = comparison.get("tables")
    if not (isinstance(tables, list) and tables and all(isinstance(each, dict) for each in tables)):
        raise MissingRecordError(_damaged(evaluation / "comparison.json", "it holds no tables"))
    return Records(
        comparison=comparison,
        by_history_length=_csv(evaluation / "by_history_length.csv"),
        by_item_popularity=_csv(evaluation / "by_item_popularity.csv"),
        best_possible=read_json(evaluation / "bayes.json"),
        findings=read_json(workspace / "artifacts" / "diagnosis" / "findings.json"),
        manifest=read_json(workspace / "data" / "prepared" / "manifest.json"),
        source=read_json(workspace / "data" / "raw" / "source.json"),
        trainings=[
            _training(folder / model / f"seed_{seed}", model, seed)
            for model in models
            for seed in seeds
            if (folder / model / f"seed_{seed}").is_dir()
        ],
        plots=_by_name(workspace / "artifacts" / "diagnosis" / "plots"),
        checks=_by_name(workspace / "artifacts" / "checks" / "findings"),
        explanations=_list(workspace / EXPLANATIONS),
    )


def with_names(records: Records, names: Mapping[str, str]) -> Records:
    """Return the records with items of the plots by name; those without one keep their raw id."""
    plots = {
        kind: [
            {**row, "item": names.get(row["item"], row["item"])} if "item" in row else row
            for row in rows
        ]
        if kind in NAMED_PLOTS
        else rows
        for kind, rows in records.plots.items()
    }
    return dataclasses.replace(records, plots=plots)


def _by_name(folder: Path) -> Row:
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _list(path: Path) -> list[Row]:
    value = _read(path) if path.is_file() else []
    if not isinstance(value, list):
        raise MissingRecordError(_damaged(path, "it holds no list"))
    return value


def _training(folder: Path, model: str, seed: int) -> Training:
    return Training(
        model=model,
        seed=seed,
        record=read_json(folder / "record.json"),
        epochs=_json_lines(folder / "epochs.jsonl"),
        steps=_json_lines(folder / "steps.jsonl"),
    )


def read_json(path: Path) -> Row:
    """Return the object in a JSON file, empty where there is no file.

    Raises:
        MissingRecordError: the file holds something else.
    """
    value = _read(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise MissingRecordError(_damaged(path, "it holds no object"))
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingRecordError(_damaged(path, error)) from None


def _json_lines(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise MissingRecordError(_damaged(path, error)) from None


def _csv(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _damaged(path: Path, reason: object) -> str:
    return f"{path} is damaged ({reason}). Run the stage that writes it again (`dvc repro -f`)."
