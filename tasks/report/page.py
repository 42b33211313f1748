"""Puts the page together. Everything from the user's data goes through the escaping template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.report import curves, data_plots, inside_plots, tables, user_maps
from tasks.report.charts import Chart
from tasks.report.diagnosis_view import describe_diagnosis
from tasks.report.explanations_view import explained_users
from tasks.report.first_screen import answers, seeds_note
from tasks.report.headline import display
from tasks.report.records import Records, Row, Training
from tasks.report.templating import fill
from tasks.settings import Settings

CONTENTS = (
    ("models", "Which model"),
    ("compare", "Side by side"),
    ("learning", "Learning curves"),
    ("groups", "Where each model is good"),
    ("health", "Health of the trainings"),
    ("inside", "Inside the models"),
    ("explained", "Why these recommendations"),
    ("diagnosis", "Diagnosis"),
    ("data", "Data and leakage"),
    ("how", "How this was made"),
)

NO_PLOTS = (
    "Nothing was measured here yet. Run `assay diagnose` after the trainings, and make the report "
    "once more."
)
NO_NEURAL = (
    "No neural model was trained in this run, so there are no gates, states, gradients or "
    "embeddings to look into."
)
NO_XLSTM = "No xLSTM was trained in this run, so there are no gates and memories to show."
NO_ATTENTION = (
    "Neither SASRec nor an xLSTM with an mLSTM block was trained in this run, so there is no "
    "attention to show."
)


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
    diagnosis = describe_diagnosis(records, _under_test(records, settings))
    explained = explained_users(records.explanations)
    data_charts = data_plots.data_charts(records.plots)
    context = {
        "title": settings.report.title,
        "experiment": settings.experiment.name,
        "data_line": _data_line(records),
        "contents": _contents(sections, explained),
        "answers": answers(records, first, best, settings.experiment.seeds),
        "tables": [tables.model_table(t, records.trainings) for t in records.comparison["tables"]],
        "notes": [records.comparison.get("method", ""), seeds_note(settings.experiment.seeds)],
        "chart_sections": sections,
        "explained": explained,
        "diagnosis": diagnosis,
        "checks": tables.checks_table(records.checks),
        "data_charts": data_charts,
        "data_tables": tables.data_tables(records),
        "versions": [("commit", about.commit), *tables.version_rows(records)],
        "commands": about.commands,
        "settings": settings_text,
    }
    charts = _all_charts(sections, diagnosis, explained, data_charts)
    return fill("report.html", charts, context)


def _all_charts(
    sections: list[Row], diagnosis: Row, explained: list[Row], data_charts: list[Chart]
) -> list[Chart]:
    charts = list(data_charts)
    for section in sections:
        charts += section["charts"]
        charts += [chart for group in section["groups"] for chart in group["charts"]]
    for group in diagnosis["groups"]:
        charts += [chart for finding in group["findings"] for chart in finding["charts"]]
    return charts + [user["chart"] for user in explained if user["chart"]]


def _contents(sections: list[Row], explained: list[Row]) -> list[tuple[str, str]]:
    shown = {"models", "diagnosis", "data", "how", *(section["id"] for section in sections)}
    if explained:
        shown.add("explained")
    return [(id, name) for id, name in CONTENTS if id in shown]


def _data_line(records: Records) -> str:
    counts = records.manifest.get("counts", {})
    if not counts:
        return "no prepared data"
    return (
        f"{counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['train_events']:,} training events"
    )


def _under_test(records: Records, settings: Settings) -> Training | None:
    """Return the first training of the model that was diagnosed."""
    model = settings.diagnose.model
    return next((training for training in records.trainings if training.model == model), None)


def _chart_sections(
    records: Records, settings: Settings, table: Row, best: float | None
) -> list[dict[str, Any]]:
    shared = settings.train.shared
    titles = dict(CONTENTS)
    health = curves.health_charts(records.trainings, shared.max_grad_norm)
    own = [training.model for training in records.trainings if training.steps]
    by_model = [
        {"title": display(model), "charts": [c for c in health if c.id.startswith(f"{model}-")]}
        for model in dict.fromkeys(own)
    ]
    sections: list[Row] = [
        {"id": "compare", "charts": [curves.comparison_chart(table, best)]},
        {"id": "learning", "charts": curves.learning_charts(records.trainings)},
        {
            "id": "groups",
            "charts": curves.group_charts(records.by_history_length, records.by_item_popularity),
        },
        {
            "id": "health",
            "texts": ["Recorded every few steps without changing the training."],
            "charts": [chart for chart in health if chart.id == "grad-norm"],
            "groups": [group for group in by_model if group["charts"]],
        },
        _inside(records),
    ]
    defaults = {"texts": [], "groups": [], "open_first": True}
    return [
        {**defaults, **section, "title": titles[section["id"]]}
        for section in sections
        if section["charts"] or section["id"] == "inside"
    ]


def _inside(records: Records) -> Row:
    plots = records.plots
    users = user_maps.user_charts(plots)
    texts = [
        f"{display(model)} is left out: its weights are not finite."
        for model in plots.get("not_finite", [])
    ]
    if not plots:
        texts.append(NO_PLOTS)
    elif not plots.get("norms"):
        texts += [] if texts else [NO_NEURAL]
    else:
        texts += [] if plots.get("gates") else [NO_XLSTM]
        texts += [] if plots.get("attention") else [NO_ATTENTION]
    return {
        "id": "inside",
        "texts": texts,
        "charts": inside_plots.model_charts(plots, records.findings),
        "groups": [
            {"title": f"Event by event: user {user['user']}", "charts": user["charts"]}
            for user in users
        ],
    }
