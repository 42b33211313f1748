"""Puts the page together. Everything from the user's data goes through the escaping template."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from tasks.report import curves, tables
from tasks.report.charts import Chart, javascript_bundle
from tasks.report.headline import headlines
from tasks.report.records import Records, Row
from tasks.settings import Settings

STAGE_TITLES = {
    "G": "The experiment as a whole",
    "X": "The xLSTM",
}
NO_DIAGNOSIS = "The diagnosis has not been run yet (`assay diagnose`)."
VERDICT_ORDER = ("faulty", "suspect", "undetermined", "healthy", "not_applicable")


@dataclass(frozen=True)
class Provenance:
    """Where a run stands: commit and the commands that repeat it."""

    commit: str
    commands: str


def render_page(records: Records, settings: Settings, settings_text: str, about: Provenance) -> str:
    """Return the report as one HTML text without any outside reference.

    Args:
        records: What the stages left.
        settings: All settings.
        settings_text: The same as YAML, to show.
        about: Commit and commands.
    """
    first = records.comparison["tables"][0]
    best_possible = records.comparison.get("best_possible") or {}
    best = best_possible.get("test/ndcg_at_10", best_possible.get("ndcg_at_10"))
    sections = _chart_sections(records, settings, first, best)
    charts = [chart for section in sections for chart in section["charts"]]
    context = {
        "title": settings.report.title,
        "experiment": settings.experiment.name,
        "data_line": _data_line(records),
        "headlines": headlines(first, best),
        "tables": [tables.model_table(t, records.trainings) for t in records.comparison["tables"]],
        "notes": [records.comparison.get("method", ""), _seeds_note(settings)],
        "chart_sections": sections,
        "diagnosis": _diagnosis(records.findings),
        "data_tables": tables.data_tables(records),
        "versions": [("commit", about.commit), *tables.version_rows(records)],
        "commands": about.commands,
        "settings": settings_text,
        "charts": charts,
        "css": _template("report.css"),
        "script": _template("report.js"),
        "bundle": javascript_bundle(),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_template("report.html")).render(context)


def _template(name: str) -> str:
    return (resources.files("tasks.report") / "templates" / name).read_text(encoding="utf-8")


def _data_line(records: Records) -> str:
    counts = records.manifest.get("counts", {})
    if not counts:
        return "no prepared data"
    return (
        f"{counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['train_events']:,} training events"
    )


def _seeds_note(settings: Settings) -> str:
    if len(settings.experiment.seeds) > 1:
        return f"Means over {len(settings.experiment.seeds)} seeds."
    return (
        "One seed per model: nothing here says how much another training of the same model would "
        "differ. Repeat with `assay run --seeds 3`."
    )


def _chart_sections(
    records: Records, settings: Settings, table: Row, best: float | None
) -> list[dict[str, Any]]:
    shared = settings.train.shared
    sections: list[tuple[str, str, str, list[Chart]]] = [
        ("compare", "Side by side", "", [curves.comparison_chart(table, best)]),
        ("learning", "Learning curves", "", curves.learning_charts(records.trainings)),
        (
            "groups",
            "Where each model is good",
            "",
            curves.group_charts(records.by_history_length, records.by_item_popularity),
        ),
        (
            "health",
            "Health of the trainings",
            "Recorded every few steps without changing the training.",
            curves.health_charts(records.trainings, shared.max_grad_norm),
        ),
    ]
    return [
        {"id": id, "title": title, "text": text, "charts": charts}
        for id, title, text, charts in sections
        if charts
    ]


def _diagnosis(findings: Row) -> Row:
    if not findings:
        return {"verdict": "", "headline": NO_DIAGNOSIS, "next_test": "", "stages": []}
    answers = findings["findings"]
    counts = Counter(answer["verdict"] for answer in answers)
    worst = next((v for v in ("faulty", "suspect") if counts[v]), "healthy")
    return {
        "verdict": worst,
        "headline": findings["headline"],
        "next_test": findings.get("next_test", ""),
        "counts": [(verdict, counts[verdict]) for verdict in VERDICT_ORDER if counts[verdict]],
        "stages": [
            {"title": title, "findings": shown}
            for letter, title in STAGE_TITLES.items()
            if (shown := [_finding(a) for a in answers if a["number"].startswith(letter)])
        ],
    }


def _finding(answer: Row) -> Row:
    rows = [
        {
            "name": check["name"],
            "value": _number(check["value"], check["unit"]),
            "limit": _limit(check),
            "verdict": check["verdict"],
            "source": check["limit"]["source"],
        }
        for check in answer["checks"]
    ]
    return {**answer, "rows": rows, "charts": []}


def _limit(check: Row) -> str:
    sign = "≤" if check["relation"] == "at_most" else "≥"
    return f"{sign} {_number(check['limit']['value'], '')}"


def _number(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float | int) else str(value)
    return f"{text} {unit}".strip()
