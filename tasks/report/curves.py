"""The plots of comparison, learning, quality by group, training health and data."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart, bar_chart, interval_chart, line_chart
from tasks.report.headline import METRIC, display
from tasks.report.records import Row, Training

MAX_POINTS = 200
"""Points per line: enough to see the shape, few enough to keep the page small."""


def comparison_chart(table: Row, best_possible: float | None) -> Chart:
    """NDCG@10 with intervals, best model first."""
    rows = [
        {
            "label": display(row["model"]),
            **{key: row["metrics"][METRIC][source] for key, source in _INTERVAL.items()},
        }
        for row in table["rows"]
    ]
    note = "" if best_possible is None else " The dashed line is the best possible score."
    return interval_chart(
        "comparison",
        f"Test NDCG@10 with 95 % intervals, full ranking.{note}",
        rows,
        x_title="NDCG@10",
        limit=best_possible,
    )


_INTERVAL = {"value": "mean", "low": "low", "high": "high"}


def learning_charts(trainings: Sequence[Training]) -> list[Chart]:
    """Validation metric and training loss by epoch."""
    charts = []
    for key, title, caption in (
        ("val/ndcg_at_10", "validation NDCG@10", "Validation NDCG@10 after each epoch."),
        ("train/loss", "training loss (nats)", "Mean training loss of each epoch."),
    ):
        rows = [
            {"model": _label(training, trainings), "epoch": epoch["epoch"], "value": epoch[key]}
            for training in trainings
            for epoch in training.epochs
            if epoch["epoch"] > 0 and epoch.get(key) is not None
        ]
        if rows:
            charts.append(
                line_chart(
                    f"learning-{key.replace('/', '-').replace('_', '-')}",
                    caption,
                    rows,
                    x="epoch",
                    y="value",
                    colour="model",
                    x_title="epoch",
                    y_title=title,
                )
            )
    return charts


def _label(training: Training, trainings: Sequence[Training]) -> str:
    name = display(training.model)
    several = sum(other.model == training.model for other in trainings) > 1
    return f"{name} seed {training.seed}" if several else name


def group_charts(by_history: Sequence[Row], by_popularity: Sequence[Row]) -> list[Chart]:
    """Test NDCG@10 by length of the history and by popularity of the target."""
    charts = []
    for id, rows, title, caption in (
        (
            "by-history",
            by_history,
            "events before the target",
            "Test NDCG@10 by length of the user's history.",
        ),
        (
            "by-popularity",
            by_popularity,
            "training events of the target item",
            "Test NDCG@10 by popularity of the target item.",
        ),
    ):
        shown = [
            {
                "group": f"{row['group']:g}" if isinstance(row["group"], float) else row["group"],
                "model": display(str(row["model"])),
                "value": row[METRIC],
            }
            for row in rows
            if row["ranking"] == "as_ranked" and row["split"] == "test"
        ]
        if shown:
            order = list(dict.fromkeys(row["group"] for row in shown))
            order.sort(key=lambda group: int(str(group).split("-")[0].rstrip("+")))
            charts.append(
                bar_chart(
                    id,
                    caption,
                    shown,
                    x="group",
                    y="value",
                    colour="model",
                    x_title=title,
                    y_title="NDCG@10",
                    order=order,
                )
            )
    return charts


def health_charts(trainings: Sequence[Training], max_grad_norm: float) -> list[Chart]:
    """Gradient norms of all models; then by layer, relative updates and gates of each."""
    first = {training.model: training for training in reversed(trainings) if training.steps}
    shown = [first[model] for model in dict.fromkeys(t.model for t in trainings) if model in first]
    charts = [step_chart("grad-norm", shown, max_grad_norm)]
    for training in shown:
        limits = {"grad/": max_grad_norm, "gate/": SHUT_GATE}
        for prefix in PARTS:
            id, limit = f"{training.model}-{prefix[:-1]}", limits.get(prefix)
            charts.append(part_chart(id, training, prefix, limits=(limit,)))
    return [chart for chart in charts if chart is not None]


def step_chart(id: str, trainings: Sequence[Training], limit: float | None) -> Chart | None:
    """Global gradient norm by step, with the clipping limit; None where it was not recorded."""
    rows = [
        {"model": display(training.model), "step": step["step"], "value": step["grad/norm"]}
        for training in trainings
        for step in _thinned(training.steps)
        if isinstance(step.get("grad/norm"), float) and step["grad/norm"] > 0
    ]
    if not rows:
        return None
    return line_chart(
        id,
        "Global gradient norm before clipping; the dashed line is the clipping limit.",
        rows,
        x="step",
        y="value",
        colour="model",
        x_title="step",
        y_title="gradient norm (log)",
        log_y=True,
        limits=(limit,) if limit else (),
    )


SHUT_GATE = 0.01
"""Openness below which the diagnosis calls a gate shut."""
PARTS = {
    "grad/": (
        "gradient norm by layer and step",
        "gradient norm (log)",
        True,
        "The dashed line is the clipping limit of all layers together.",
    ),
    "update/": (
        "size of a step relative to the weights, by layer and step",
        "update / weight (log)",
        True,
        "The dashed line is the limit.",
    ),
    "gate/": (
        "mean openness of the gates over training",
        "openness",
        False,
        "Below the dashed line a gate is shut.",
    ),
}
"""Prefix of recorded quantities -> what they are, title of the axis, whether it is logarithmic,
what a dashed line means."""


def part_chart(
    id: str, training: Training | None, prefix: str, *, limits: Sequence[float | None] = ()
) -> Chart | None:
    """What a training recorded part by part under a prefix; None where it recorded nothing."""
    what, title, log_y, dashed = PARTS[prefix]
    rows = [
        {"part": key.removeprefix(prefix), "step": step["step"], "value": value}
        for step in ([] if training is None else _thinned(training.steps))
        for key, value in step.items()
        if key.startswith(prefix)
        and key not in ("grad/norm", "grad/clipped")
        and isinstance(value, float)
        and (value > 0 or not log_y)
    ]
    if training is None or not rows:
        return None
    drawn = [limit for limit in limits if limit is not None]
    note = f" {dashed}" if drawn else ""
    return line_chart(
        id,
        f"{display(training.model)}: {what}.{note}",
        rows,
        x="step",
        y="value",
        colour="part",
        x_title="step",
        y_title=title,
        log_y=log_y,
        limits=drawn,
    )


def _thinned(rows: Sequence[Row]) -> Sequence[Row]:
    every = -(-len(rows) // MAX_POINTS) or 1
    return rows[::every]
