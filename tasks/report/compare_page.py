"""Two or more runs side by side on one page: settings, data, verdicts, metrics, learning curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.report.charts import Chart, interval_chart, line_chart
from tasks.report.first_screen import Answer
from tasks.report.headline import METRIC, display
from tasks.report.records import Records, Row
from tasks.report.tables import TableRow, TextTable
from tasks.report.templating import fill
from tasks.settings import Settings

SHOWN_METRICS = ("ndcg_at_10", "hit_rate_at_10", "mrr_at_10")
METRIC_NAMES = {"ndcg_at_10": "NDCG@10", "hit_rate_at_10": "HR@10", "mrr_at_10": "MRR@10"}
NOTHING = "–"
LISTED_SETTINGS = 4
"""Settings that differ on the first screen; all of them stand in a table."""


@dataclass(frozen=True)
class Run:
    """One run to compare."""

    name: str
    settings: Settings
    records: Records


def render_comparison(runs: list[Run]) -> str:
    """Return the page as one HTML text without any outside reference.

    Args:
        runs: At least two, in the order they were named.
    """
    names = [run.name for run in runs]
    sections = [_metrics(runs), _verdicts(runs), _curves(runs), _settings(runs), _data(runs)]
    charts = [chart for section in sections for chart in section["charts"]]
    context = {"names": names, "answers": _answers(runs), "sections": sections}
    return fill("compare.html", charts, context)


def differences(settings: Mapping[str, Settings]) -> dict[str, dict[str, Any]]:
    """Return setting -> run -> value for every setting that is not the same in all runs."""
    flat = {name: _flatten(one.model_dump(mode="json")) for name, one in settings.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    return {
        key: {name: values.get(key) for name, values in flat.items()}
        for key in keys
        if len({json.dumps(values.get(key)) for values in flat.values()}) > 1
    }


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        flat |= _flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


def same_data(runs: list[Run]) -> bool:
    """True where all runs were prepared to the same bytes: only then are metrics comparable."""
    hashes = {run.records.manifest.get("data_hash") for run in runs}
    return len(hashes) == 1 and None not in hashes


def _answers(runs: list[Run]) -> list[Answer]:
    rows = {run.name: run.records.comparison["tables"][0]["rows"] for run in runs}
    tops = {name: found[0] for name, found in rows.items() if found}
    lines = tuple(
        f"{name}: {display(row['model'])}, NDCG@10 {_interval(row['metrics'][METRIC])}"
        for name, row in tops.items()
    )
    comparable = same_data(runs)
    warning = "The runs were tested on other events: a difference says nothing of the models."
    winner = _winner(tops)
    short = f"{winner} has the best model." if winner else "None is clearly better."
    if not comparable:
        short = "Each on its own data."
    verdict = "healthy" if winner and comparable else "undetermined"
    changed = differences({run.name: run.settings for run in runs})
    some = [
        f"{key}: {' → '.join(_value(by_run[run.name]) for run in runs)}"
        for key, by_run in list(changed.items())[:LISTED_SETTINGS]
    ]
    if len(changed) > LISTED_SETTINGS:
        some.append(f"and {len(changed) - LISTED_SETTINGS} more below")
    return [
        Answer("Which run has the best model", verdict, short, lines),
        Answer(
            "Can they be compared",
            "healthy" if comparable else "suspect",
            "Yes, the prepared data are the same." if comparable else "No, the data differ.",
            () if comparable else (warning,),
        ),
        Answer(
            "What changed",
            "healthy",
            f"{len(changed)} settings." if len(changed) != 1 else "1 setting.",
            tuple(some),
        ),
    ]


def _winner(tops: Mapping[str, Row]) -> str:
    """Name of the run whose best model lies above every other run's interval, or nothing."""
    metrics = {name: row["metrics"][METRIC] for name, row in tops.items()}
    first = max(metrics, key=lambda name: metrics[name]["mean"], default="")
    apart = all(
        metrics[first]["low"] > metric["high"] for name, metric in metrics.items() if name != first
    )
    return first if apart and len(metrics) > 1 else ""


def _metrics(runs: list[Run]) -> Row:
    tables = {run.name: run.records.comparison["tables"][0]["rows"] for run in runs}
    models = dict.fromkeys(row["model"] for rows in tables.values() for row in rows)
    found = {(name, row["model"]): row["metrics"] for name, rows in tables.items() for row in rows}
    rows = []
    for model in models:
        for metric in SHOWN_METRICS:
            values = [found.get((name, model), {}).get(metric) for name in tables]
            cells = (f"{display(model)}, {METRIC_NAMES[metric]}", *map(_interval, values))
            rows.append(TableRow(cells, best=metric == METRIC))
    points = [
        {
            "label": f"{display(model)}, {name}",
            "run": name,
            **_bounds(found[name, model][METRIC]),
        }
        for model in models
        for name in tables
        if (name, model) in found
    ]
    caption = "Test metrics with 95 % intervals, full ranking"
    chart = interval_chart(
        "compare-metrics",
        "Test NDCG@10 with 95 % intervals, full ranking, by model and run.",
        points,
        x_title="NDCG@10",
        colour="run",
    )
    table = TextTable(caption, ("Model", *tables), tuple(rows), wide_last=False)
    return _section("metrics", "Metrics", charts=[chart] if points else [], tables=[table])


def _bounds(metric: Row) -> Row:
    return {"value": metric["mean"], "low": metric["low"], "high": metric["high"]}


def _interval(metric: Row | None) -> str:
    if metric is None:
        return NOTHING
    return f"{metric['mean']:.4f} ({metric['low']:.4f} to {metric['high']:.4f})"


def verdict_rows(runs: list[Run]) -> list[tuple[str, ...]]:
    """Return one row per question any run answered: its number and title, a verdict per run."""
    by_run = [{f["question"]: f for f in run.records.findings.get("findings", [])} for run in runs]
    questions = {id: f for findings in by_run for id, f in findings.items()}
    return [
        (
            f"{finding['number']} {finding['title']}",
            *(_verdict(findings.get(id)) for findings in by_run),
        )
        for id, finding in questions.items()
    ]


def _verdict(finding: Row | None) -> str:
    return NOTHING if finding is None else finding["verdict"].replace("_", " ")


def _verdicts(runs: list[Run]) -> Row:
    rows = verdict_rows(runs)
    differing = [row for row in rows if len(set(row[1:])) > 1]
    texts = [f"{run.name}: {run.records.findings.get('headline', 'not diagnosed')}" for run in runs]
    same = len(rows) - len(differing)
    if same:
        texts.append(f"{same} questions have the same answer in all runs.")
    heads = ("Question", *(run.name for run in runs))
    table = TextTable(
        "Questions answered differently", heads, tuple(map(TableRow, differing)), wide_last=False
    )
    return _section("verdicts", "Verdicts", texts=texts, tables=[table] if differing else [])


def _curves(runs: list[Run]) -> Row:
    charts: list[Chart] = []
    models = dict.fromkeys(t.model for run in runs for t in run.records.trainings)
    for model in models:
        for key, title in (("val/ndcg_at_10", "validation NDCG@10"), ("train/loss", "loss (nats)")):
            rows = [
                {"run": _line(run, training.seed), "epoch": epoch["epoch"], "value": epoch[key]}
                for run in runs
                for training in run.records.trainings
                if training.model == model
                for epoch in training.epochs
                if epoch["epoch"] > 0 and epoch.get(key) is not None
            ]
            if rows:
                charts.append(_curve(f"curve-{len(charts)}", f"{display(model)}: {title}", rows))
    texts = [] if charts else ["No run trained a model epoch by epoch."]
    return _section("curves", "Learning curves", texts=texts, charts=charts)


def _line(run: Run, seed: int) -> str:
    return f"{run.name} seed {seed}" if len(run.settings.experiment.seeds) > 1 else run.name


def _curve(id: str, caption: str, rows: list[Row]) -> Chart:
    return line_chart(
        id,
        f"{caption} by epoch.",
        rows,
        x="epoch",
        y="value",
        colour="run",
        x_title="epoch",
        y_title=caption.rpartition(": ")[2],
    )


def _settings(runs: list[Run]) -> Row:
    changed = differences({run.name: run.settings for run in runs})
    rows = tuple(
        TableRow((key, *(_value(by_run[run.name]) for run in runs)))
        for key, by_run in changed.items()
    )
    texts = [] if rows else ["All settings are the same."]
    heads = ("Setting", *(run.name for run in runs))
    table = TextTable("Settings that differ", heads, rows, wide_last=False)
    return _section("settings", "Settings", texts=texts, tables=[table] if rows else [])


def _value(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _data(runs: list[Run]) -> Row:
    manifests = [run.records.manifest for run in runs]
    rows = [("data hash", *(str(m.get("data_hash", NOTHING))[:16] for m in manifests))]
    rows += [
        ("source", *(str(run.records.source.get("title", NOTHING)) for run in runs)),
        ("split", *(str(m.get("settings", {}).get("split", NOTHING)) for m in manifests)),
    ]
    counts = [m.get("counts", {}) for m in manifests]
    for key in dict.fromkeys(key for each in counts for key in each):
        values = (f"{each[key]:,}" if key in each else NOTHING for each in counts)
        rows.append((key.replace("_", " "), *values))
    checks = [m.get("leakage", []) for m in manifests]
    passed = (f"{sum(c['passed'] for c in own)} of {len(own)}" for own in checks)
    rows.append(("leakage checks passed", *passed))
    heads = ("Data", *(run.name for run in runs))
    table = TextTable("Prepared data", heads, tuple(map(TableRow, rows)), wide_last=False)
    return _section("data", "Data", tables=[table])


def _section(
    id: str,
    title: str,
    *,
    texts: list[str] | None = None,
    charts: list[Chart] | None = None,
    tables: list[TextTable] | None = None,
) -> Row:
    return {
        "id": id,
        "title": title,
        "texts": texts or [],
        "charts": charts or [],
        "tables": tables or [],
    }
