"""What a workspace holds, apart from times: to compare a killed run with an unbroken one."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.tracking.journal import Journal

TIMES = frozenset(
    {
        *("seconds", "tokens_per_second", "wall_seconds", "cpu_seconds", "epoch_seconds"),
        *("peak_memory_mb", "peak_gpu_memory_mb", "training/wall_seconds", "fingerprint"),
        *("training/cpu_seconds", "training/peak_memory_mb", "epoch/seconds"),
        *("epoch/tokens_per_second", "duration_seconds", "total_seconds", "took_seconds"),
    }
)
FOLDERS = ("data", "artifacts")


def without_times(value: Any) -> Any:
    """A JSON value without the entries that hold times or memory."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(each) for each in value]
    return value


def digest_outputs(workspace: Path) -> dict[str, str]:
    """SHA-256 of every file below ``data`` and ``artifacts``, left-over ones included, by name."""
    return {
        str(path.relative_to(workspace)): _digest(path)
        for folder in FOLDERS
        for path in sorted((workspace / folder).rglob("*"))
        if path.is_file()
    }


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        lines = content.splitlines() if path.suffix == ".jsonl" else [content]
        values = [without_times(json.loads(line)) for line in lines]
        content = json.dumps(values, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def logged(workspace: Path) -> dict[str, Any]:
    """What the journals say: per run its metric points, its parameters and its last status.

    A point that is there twice, or a run that was begun twice, shows.
    """
    runs: dict[str, Any] = {}
    for path in sorted((workspace / ".assay" / "spool").glob("[0-9]*.jsonl")):
        records = [entry.record for entry in Journal(path).entries()]
        names = [each["name"] for each in records if each.get("op") == "run"]
        # The parent's name holds the time it began.
        name = names[0] if names and " seed " in names[0] else "parent" if names else "nameless"
        points = Counter(
            f"{point[0]} at {point[3]}" + ("" if _is_time(point[0]) else f" = {point[1]!r}")
            for each in records
            if each.get("op") == "metrics" and each.get("kind") != "system"
            for point in each["points"]
        )
        runs.setdefault(name, []).append(
            {
                "points": dict(sorted(points.items())),
                "params": sorted(_merged(records, "params").items()),
                "status": [each["status"] for each in records if each.get("op") == "end"][-1:],
            }
        )
    return runs


def _merged(records: list[dict[str, Any]], op: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for record in records:
        if record.get("op") == op:
            merged |= record["values"]
    return merged


def _is_time(name: str) -> bool:
    return name in TIMES or name.rpartition("/")[2] in TIMES


def delivered(database: Path) -> dict[str, Any]:
    """What MLflow's SQLite file holds: runs, metric points, parameters, models, versions."""
    queries = {
        "runs": "SELECT name, status FROM runs",
        "points": "SELECT r.name, m.key, m.step, m.value FROM metrics m"
        " JOIN runs r USING (run_uuid) WHERE m.key NOT LIKE 'system/%'",
        "params": "SELECT r.name, p.key, p.value FROM params p JOIN runs r USING (run_uuid)",
        "models": "SELECT name, status FROM logged_models",
        "versions": "SELECT name, version FROM model_versions",
        "aliases": "SELECT name, alias, version FROM registered_model_aliases",
    }
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {
            name: sorted(map(repr, connection.execute(query).fetchall()))
            for name, query in queries.items()
        }
