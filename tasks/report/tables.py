"""The tables of the page as plain rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.report.headline import Table, display, verdict_on
from tasks.report.records import Records, Row, Training

HEADS = (
    "Model",
    "NDCG@10",
    "95 % interval",
    "HR@10",
    "MRR@10",
    "HR@20",
    "Training",
    "Parameters",
    "Against the best",
)
RANKING_CAPTIONS = {
    False: "Test set, full ranking of the catalogue, ties ranked worst, seen items included.",
    True: "Test set, full ranking of the catalogue, items the user has seen left out.",
}

UNBROKEN = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class TableRow:
    """One row of text cells; the best one is marked."""

    cells: tuple[str, ...]
    best: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table ready to print."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[TableRow, ...]
    wide_last: bool = True
    """Whether the last column holds running text."""


def model_table(table: Table, trainings: Sequence[Training]) -> TextTable:
    """Turn one comparison table into text, best model first."""
    rows = []
    for place, row in enumerate(table["rows"]):
        metrics = row["metrics"]
        own = [training for training in trainings if training.model == row["model"]]
        ndcg = metrics["ndcg_at_10"]
        cells = (
            display(row["model"]),
            f"{ndcg['mean']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            *(_mean(metrics, name) for name in _OTHER_METRICS),
            _seconds(own),
            _parameters(own),
            verdict_on(table, row["model"]).replace(" = ", UNBROKEN),
        )
        rows.append(TableRow(cells, best=place == 0))
    return TextTable(RANKING_CAPTIONS[bool(table["seen_filtered"])], HEADS, tuple(rows))


_OTHER_METRICS = ("hit_rate_at_10", "mrr_at_10", "hit_rate_at_20")


def _mean(metrics: Row, name: str) -> str:
    return f"{metrics[name]['mean']:.4f}" if name in metrics else "–"


def _seconds(trainings: Sequence[Training]) -> str:
    seconds = [t.record["wall_seconds"] for t in trainings if "wall_seconds" in t.record]
    return f"{sum(seconds) / len(seconds):,.0f} s" if seconds else "–"


def _parameters(trainings: Sequence[Training]) -> str:
    counts = [t.record["num_parameters"] for t in trainings if "num_parameters" in t.record]
    return f"{counts[0]:,}" if counts else "–"


def data_tables(records: Records) -> list[dict[str, Any]]:
    """Counts, warnings and leakage checks of the prepared data as name-value rows."""
    manifest = records.manifest
    if not manifest:
        return []
    tables = [{"caption": "What was prepared", "rows": _counts(manifest)}]
    warnings = [(w["id"].replace("_", " "), w["message"]) for w in manifest.get("warnings", [])]
    if warnings:
        tables.append({"caption": "Know before you trust the numbers", "rows": warnings})
    checks = [
        (
            check["id"].replace("_", " "),
            f"{_outcome(check)}: {check['message']}",
        )
        for check in manifest.get("leakage", [])
    ]
    tables.append({"caption": "Leakage checks", "rows": checks})
    if records.source:
        tables.append({"caption": "Source of the log", "rows": _source(records.source)})
    return tables


def _outcome(check: Row) -> str:
    # A failed exact check stops the pipeline, so what is left to say here is a warning.
    return "passed" if check["passed"] else "warning"


def _counts(manifest: Row) -> list[tuple[str, str]]:
    rows = [(name.replace("_", " "), f"{n:,}") for name, n in manifest["counts"].items()]
    statistics = manifest.get("statistics", {})
    lengths = statistics.get("history_lengths", {}).get("test")
    if lengths:
        rows.append(
            (
                "history length at test",
                f"median {lengths['q50']:.0f}, 5 % to 95 % {lengths['q05']:.0f} to "
                f"{lengths['q95']:.0f}, longest {lengths['q100']:.0f}",
            )
        )
    popularity = statistics.get("popularity")
    if popularity:
        rows.append(("effective number of items", f"{popularity['effective_items']:,.0f}"))
        rows.append(("events on the most popular 1 % of items", f"{popularity['head_share']:.1%}"))
    if "first_training_time" in statistics:
        first, last = statistics["first_training_time"], statistics["last_training_time"]
        rows.append(("training events from", f"{_date(first)} to {_date(last)}"))
    rows.append(("split", str(manifest["settings"].get("split", "")).replace("_", " ")))
    return rows


def _date(microseconds: int) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, tz=UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return f"{microseconds} µs"


def _source(source: Row) -> list[tuple[str, str]]:
    shown = ("title", "name", "origin", "file", "sha256", "licence")
    return [(key, str(source[key])) for key in shown if source.get(key)]


def checks_table(checks: dict[str, Row]) -> dict[str, Any] | None:
    """What the checks before training said of each model; None where there were none."""
    if not checks:
        return None
    rows = [(display(model), findings.get("headline", "")) for model, findings in checks.items()]
    return {"caption": "Checks before any training, by model", "rows": rows}


def version_rows(records: Records) -> list[tuple[str, str]]:
    """Hashes and library versions behind the numbers."""
    rows = [("data hash", str(records.manifest.get("data_hash", "unknown")))]
    if records.trainings:
        rows += [
            (name, str(version))
            for name, version in records.trainings[0].record.get("versions", {}).items()
        ]
    return rows
